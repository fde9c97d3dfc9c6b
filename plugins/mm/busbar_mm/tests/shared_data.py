"""Where the tests find the real data sets."""

import os
from pathlib import Path


def shared_data(name: str) -> Path:
    """Return the folder of a data set: below `BUSBAR_SHARED`, else below `shared` beside the repository."""
    repository = Path(__file__).resolve().parents[4]
    folder = Path(os.environ.get("BUSBAR_SHARED", repository.parent / "shared")) / "data" / name
    assert folder.is_dir(), f"The data set {name} is not at {folder}; set BUSBAR_SHARED to the folder that has `data`."
    return folder
