"""What finance can load in bulk: tables of cost centers."""

from busbar.sdk import Importer
from busbar_fi.import_cost_centers import CostCenterRecord, import_cost_centers

IMPORTERS = (
    Importer(
        name="fi.cost_centers",
        title="Cost centers from CSV or XLSX",
        permission="fi.import",
        run=import_cost_centers,
        target=CostCenterRecord,
    ),
)
