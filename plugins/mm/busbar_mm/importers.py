"""What materials management can load in bulk: materials, their stock, and a public database of equipment prices."""

from busbar.sdk import Importer
from busbar_mm.import_disco import import_disco
from busbar_mm.import_materials import MaterialRecord, import_materials
from busbar_mm.import_stock import StockRecord, import_stock

IMPORTERS = (
    Importer(
        name="mm.materials",
        title="Materials from CSV or XLSX",
        permission="mm.import",
        run=import_materials,
        target=MaterialRecord,
    ),
    Importer(
        name="mm.stock",
        title="Stock from CSV or XLSX: opening balances or counts",
        permission="mm.import",
        run=import_stock,
        target=StockRecord,
    ),
    Importer(
        name="mm.disco",
        title="Distribution equipment with prices (NREL DISCO cost database)",
        permission="mm.import",
        run=import_disco,
        folder=True,
    ),
)
