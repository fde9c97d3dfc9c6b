"""The HTTP side of imports: send a file, follow the job, read what was rejected."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State, UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body, FromPath, QueryParameter

from busbar.auth.guards import RequestContext
from busbar.errors import BadFormat, NotFound
from busbar.imports import commands, queries
from busbar.imports.contract import ALL_OR_NOTHING, Importer, ImportRun, Mode
from busbar.imports.mapping import read_mapping
from busbar.imports.queries import ImportView
from busbar.imports.uploads import keep_upload
from busbar.web.access import AUTHENTICATED, needs
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SortParameter
from busbar.web.problems import problem_response
from busbar.web.text import SLUG, Slug

_FORM_ERRORS = (UnicodeError, LookupError)
_READ = needs("imports.read")

ImporterFilter = Annotated[
    str | None,
    QueryParameter(name="importer", max_length=80, pattern=r"^[a-z0-9_.]*$", description="Only this importer's."),
]
SiteFilter = Annotated[
    str | None, QueryParameter(name="site", max_length=40, pattern=SLUG, description="Only this site's.")
]


@dataclass(frozen=True, kw_only=True)
class ImportForm:
    """A file to be imported."""

    importer: Annotated[str, msgspec.Meta(min_length=1, max_length=80, pattern=r"^[a-z0-9_.]*$")]
    """One of `GET /importers`."""
    site: Slug
    file: UploadFile
    """A table, or for an importer of folders a ZIP archive."""
    mode: Mode = ALL_OR_NOTHING
    """`all_or_nothing` writes no row if one is bad; `partial` writes the good ones."""
    mapping: Annotated[str, msgspec.Meta(max_length=100_000)] = ""
    """JSON: which column becomes which field; left out, columns are matched by their names."""


class ImporterView(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of file that can be imported."""

    name: str
    title: str
    permission: str
    """What one needs to run it."""
    allowed: bool
    """Whether the caller has it."""
    folder: bool
    """Whether it takes a folder of files, sent as a ZIP archive."""
    fields: dict[str, Any] | None
    """JSON Schema of the fields that a mapping can fill; null where the columns are fixed."""


@get("/importers", opt=_READ)
async def list_importers(ctx: RequestContext, state: State) -> tuple[ImporterView, ...]:
    """List the kinds of file that can be imported, by name."""
    return tuple(
        ImporterView(
            name=importer.name,
            title=importer.title,
            permission=importer.permission,
            allowed=ctx.actor.may(importer.permission),
            folder=importer.folder,
            fields=None if importer.target is None else _fields(importer.target),
        )
        for _, importer in sorted(_importers(state).items())
    )


def _unreadable_form(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """A part of the form is not in the character set that it claims; the framework lets that through as it is."""
    if isinstance(error, UnicodeError) or type(error) is LookupError:
        return problem_response(BadFormat("A field of the form is not valid UTF-8."), instance=request.url.path)
    raise error


@post("/imports", opt=AUTHENTICATED, status_code=202, exception_handlers=dict.fromkeys(_FORM_ERRORS, _unreadable_form))
async def start_import(
    ctx: RequestContext,
    state: State,
    data: Annotated[ImportForm, Body(media_type=RequestEncodingType.MULTI_PART)],
) -> Response[ImportView]:
    """Import a file. 202 means that it is being worked on; `Location` is where to follow it."""
    importers = _importers(state)
    importer = importers.get(data.importer)
    if importer is None:
        raise NotFound(f"There is no importer {data.importer}; there are {', '.join(sorted(importers))}.")
    ctx.require(importer.permission)
    mapping = read_mapping(data.mapping.encode()) if data.mapping else None
    upload = await asyncio.to_thread(keep_upload, data.file.file, as_folder=importer.folder)
    run = ImportRun(ctx=ctx, path=upload.path, site_id=data.site, mode=data.mode, mapping=mapping)
    try:
        await commands.start_import(ctx, importer, run, file_name=_printable(data.file.filename), done=upload.remove)
    except BaseException:
        upload.remove()
        raise
    started = await queries.get_import(ctx, run.import_id)
    return Response(started, status_code=202, headers={"Location": f"/api/v1/imports/{run.import_id}"})


@get("/imports", opt=_READ)
async def list_imports(
    ctx: RequestContext,
    importer: ImporterFilter = None,
    site: SiteFilter = None,
    job_state: Annotated[Literal["running", "done", "failed"] | None, QueryParameter(name="state")] = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[ImportView]:
    """List imports, the latest first. Can be sorted by created_at, importer, state, import_id."""
    return await queries.list_imports(
        ctx, importer=importer, site_id=site, job_state=job_state, limit=limit, cursor=cursor, sort=sort
    )


@get("/imports/{import_id:uuid}", opt=_READ)
async def get_import(ctx: RequestContext, import_id: FromPath[UUID]) -> ImportView:
    """Read one import: its progress, and the first hundred errors."""
    return await queries.get_import(ctx, import_id)


@get("/imports/{import_id:uuid}/errors.csv", opt=_READ, media_type="text/csv; charset=utf-8")
async def get_import_errors(ctx: RequestContext, import_id: FromPath[UUID]) -> Response[str]:
    """Read the errors of an import as a CSV file: line, field, value, message."""
    text = await queries.get_errors_csv(ctx, import_id)
    disposition = f'attachment; filename="import-{import_id}-errors.csv"'
    return Response(text, headers={"Content-Disposition": disposition}, media_type="text/csv; charset=utf-8")


def _importers(state: State) -> Mapping[str, Importer]:
    importers: Mapping[str, Importer] = state.importers
    return importers


def _fields(target: type[msgspec.Struct]) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([target], ref_template="#/$defs/{name}")
    own = components.pop(schema["$ref"].rsplit("/", 1)[-1])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **own, "$defs": components}


def _printable(name: str) -> str:
    return "".join(character for character in name[:200] if character.isprintable()) or "unnamed"


ROUTES = (list_importers, start_import, list_imports, get_import, get_import_errors)
