"""What plant maintenance can load in bulk: networks, tables of assets, and disturbance reports."""

from busbar.sdk import Importer
from busbar_pm.import_assets import AssetRecord, import_assets, import_simbench
from busbar_pm.import_incidents import import_oe417

IMPORTERS = (
    Importer(
        name="pm.assets",
        title="Assets from CSV or XLSX",
        permission="pm.import",
        run=import_assets,
        target=AssetRecord,
    ),
    Importer(
        name="pm.simbench",
        title="Distribution network in SimBench format",
        permission="pm.import",
        run=import_simbench,
        folder=True,
    ),
    Importer(
        name="pm.oe417",
        title="Disturbance reports (US DOE Form OE-417)",
        permission="pm.import",
        run=import_oe417,
    ),
)
