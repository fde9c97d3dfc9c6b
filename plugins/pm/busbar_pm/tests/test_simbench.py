"""The SimBench grid becomes a tree of assets that loses no row and counts every customer once."""

import csv
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from busbar_pm.simbench import AssetRow, read_assets, summarize
from busbar_pm.simbench_tables import BadGrid
from busbar_pm.tests.shared_data import shared_data


@pytest.fixture(scope="module")
def folder() -> Path:
    return shared_data("simbench-grid")


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[AssetRow]:
    return list(read_assets(folder))


@pytest.fixture(scope="module")
def by_id(rows: list[AssetRow]) -> dict[str, AssetRow]:
    return {row.asset_id: row for row in rows}


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


class TestNoRowIsLost:
    def test_the_totals_are_those_of_the_files(self, rows: list[AssetRow]) -> None:
        totals = summarize(rows)
        assert totals.by_type == {
            "network": 3,
            "substation": 41,
            "transformer": 686,
            "feeder": 264,
            "line": 34_606,
            "switch": 13_125,
            "service_point": 36_063,
        }
        assert totals.rows == len(rows) == 84_788
        assert totals.line_km == pytest.approx(37_167.353)

    @pytest.mark.parametrize(
        ("asset_type", "file"),
        [
            ("substation", "Substation.csv"),
            ("transformer", "Transformer.csv"),
            ("line", "Line.csv"),
            ("switch", "Switch_cb_lbs_ds.csv"),
            ("service_point", "Load.csv"),
        ],
    )
    def test_every_row_of_a_file_is_there_under_its_name(
        self, rows: list[AssetRow], folder: Path, asset_type: str, file: str
    ) -> None:
        names = Counter(row.name for row in rows if row.asset_type == asset_type)
        assert names == Counter(row["id"] for row in table(folder, file))

    def test_a_second_reading_gives_the_same_rows_in_the_same_order(self, rows: list[AssetRow], folder: Path) -> None:
        assert list(read_assets(folder)) == rows


class TestTheTree:
    def test_asset_ids_are_unique_short_and_fit_for_an_address(
        self, rows: list[AssetRow], by_id: dict[str, AssetRow]
    ) -> None:
        assert len(by_id) == len(rows)
        assert all(re.fullmatch(r"[A-Z]{3}-[A-Za-z0-9.-]{1,60}", asset_id) for asset_id in by_id)

    def test_every_parent_comes_before_its_children_so_there_is_no_cycle(self, rows: list[AssetRow]) -> None:
        seen: set[str] = set()
        for row in rows:
            assert row.parent_id is None or row.parent_id in seen, row
            seen.add(row.asset_id)

    def test_only_the_two_networks_that_no_single_substation_feeds_have_no_parent(self, rows: list[AssetRow]) -> None:
        assert [row.asset_id for row in rows if row.parent_id is None] == ["NET-EHV1", "NET-HV1"]

    def test_an_lv_service_point_leads_up_to_its_substation(self, by_id: dict[str, AssetRow]) -> None:
        path = [by_id["SVP-LV3.401-Load-51"]]
        while path[-1].parent_id:
            path.append(by_id[path[-1].parent_id])
        assert [row.asset_id for row in path[1:]] == [
            "LIN-LV3.401-Line-86",
            "TRF-MV4.101-LV3.401-Trafo",
            "FDR-MV4.101-Feeder2",
            "TRF-HV1-MV4.101-Trafo1",
            "SUB-HV1-MV4.101-Substation",
            "NET-HV1",
        ]

    def test_each_distribution_transformer_is_on_one_feeder(
        self, rows: list[AssetRow], by_id: dict[str, AssetRow]
    ) -> None:
        distribution = [
            row for row in rows if row.asset_type == "transformer" and row.attributes["secondary_kv"] == 0.4
        ]
        assert len(distribution) == 412
        assert {by_id[row.parent_id or ""].asset_type for row in distribution} == {"feeder"}

    def test_the_feeders_of_a_base_station_hang_under_it(self, by_id: dict[str, AssetRow]) -> None:
        assert by_id["FDR-MV3.101-Feeder11"].parent_id == "SUB-MV3.101-Base-Station"
        assert by_id["SUB-MV3.101-Base-Station"].parent_id == "SUB-HV1-MV3.101-Substation"

    def test_a_feeder_between_two_transformers_hangs_under_the_substation(self, by_id: dict[str, AssetRow]) -> None:
        assert by_id["FDR-MV4.101-Feeder6"].attributes["busbar"] == "MV4.101 busbar1.2"
        assert by_id["FDR-MV4.101-Feeder6"].parent_id == "SUB-HV1-MV4.101-Substation"

    def test_the_network_that_one_substation_feeds_hangs_under_it(self, by_id: dict[str, AssetRow]) -> None:
        assert by_id["NET-HV2"].parent_id == "SUB-EHV-HV-substation-4"

    def test_a_loop_line_belongs_to_the_feeder_that_energises_it(self, by_id: dict[str, AssetRow]) -> None:
        loop = by_id["LIN-MV1.102-loop-line-1"]
        assert loop.parent_id == "FDR-MV1.102-Feeder1"
        assert loop.customers_served == 0


class TestCustomers:
    def test_the_roots_serve_every_service_point_once(self, rows: list[AssetRow]) -> None:
        assert summarize(rows).customers_at_roots == 36_063
        assert all(row.customers_served == 1 for row in rows if row.asset_type == "service_point")

    def test_a_distribution_transformer_serves_the_loads_of_its_lv_subnet(
        self, rows: list[AssetRow], folder: Path
    ) -> None:
        loads = Counter(row["subnet"] for row in table(folder, "Load.csv") if row["voltLvl"] == "7")
        served = {
            str(row.attributes["subnet"]): row.customers_served
            for row in rows
            if row.asset_type == "transformer" and row.attributes["secondary_kv"] == 0.4
        }
        assert served == dict(loads)
        assert (min(served.values()), max(served.values()), sum(served.values())) == (13, 118, 32_511)

    def test_a_container_serves_the_service_points_below_it(
        self, rows: list[AssetRow], by_id: dict[str, AssetRow]
    ) -> None:
        below: Counter[str] = Counter()
        for row in rows:
            above = row.parent_id if row.asset_type == "service_point" else None
            while above:
                below[above] += 1
                above = by_id[above].parent_id
        for row in rows:
            if row.asset_type in ("network", "substation"):
                assert row.customers_served == below[row.asset_id], row
        # A feeder with a base station at its end also serves the feeders that start there.
        beyond = [row for row in rows if row.asset_type == "feeder" and row.customers_served != below[row.asset_id]]
        stations = ("MV3.101", "MV3.102", "MV3.103", "MV3.201", "MV3.202")
        assert Counter(row.name.split("_")[0] for row in beyond) == dict.fromkeys(stations, 2)
        assert (
            by_id["SUB-MV3.101-Base-Station"].customers_served
            == 2_121
            == sum(row.customers_served - below[row.asset_id] for row in beyond if row.name.startswith("MV3.101"))
        )

    def test_a_feeders_breaker_and_first_line_have_the_feeders_number(self, by_id: dict[str, AssetRow]) -> None:
        feeder = by_id["FDR-MV1.101-Feeder1"]
        line = by_id["LIN-MV1.101-Line-1"]
        breaker = by_id[str(line.attributes["supplied_by"])]
        assert breaker.attributes["type"] == "circuit breaker"
        assert feeder.customers_served == line.customers_served == breaker.customers_served > 0

    def test_an_open_switch_serves_nobody(self, rows: list[AssetRow]) -> None:
        opened = [row for row in rows if row.attributes.get("normally_open")]
        assert len(opened) == 2_603
        assert all(row.customers_served == 0 for row in opened)

    def test_two_parallel_transformers_share_the_substation_and_say_that_they_are_redundant(
        self, by_id: dict[str, AssetRow]
    ) -> None:
        first, second = by_id["TRF-HV1-MV2.101-Trafo1"], by_id["TRF-HV1-MV2.101-Trafo2"]
        assert first.attributes["redundant"] and second.attributes["redundant"]
        # One more stands at the 110 kV busbar: the equivalent load of this very grid.
        assert first.customers_served + second.customers_served + 1 == 8_883
        assert by_id["SUB-HV1-MV2.101-Substation"].customers_served == 8_883
        assert by_id["SWT-HV1-MV2.101-Trafo1-CB-MV-Side"].customers_served == first.customers_served

    def test_opening_a_branch_cuts_off_exactly_the_number_it_has(self, rows: list[AssetRow], folder: Path) -> None:
        """Compared with a flood fill over a graph that is built here anew from the files."""
        nodes = {row["id"] for row in table(folder, "Node_physical.csv")}
        switches = table(folder, "Switch_cb_lbs_ds.csv")
        known = nodes | {row[end] for row in switches for end in ("nodeA", "nodeB")}
        graph: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for file, ends in (
            ("Line.csv", ("nodeA", "nodeB")),
            ("Transformer.csv", ("nodeHV", "nodeLV")),
            ("Switch_cb_lbs_ds.csv", ("nodeA", "nodeB")),
        ):
            for row in table(folder, file):
                if row.get("cond") != "0":
                    a, b = (row[end] if row[end] in known else re.sub(r"_\d+$", "", row[end]) for end in ends)
                    graph[a].append((b, row["id"]))
                    graph[b].append((a, row["id"]))
        loads = Counter(row["node"] for row in table(folder, "Load.csv"))

        def supplied(without: str) -> int:
            reached, todo = {"EHV Bus 177"}, ["EHV Bus 177"]
            while todo:
                for neighbour, name in graph[todo.pop()]:
                    if name != without and neighbour not in reached:
                        reached.add(neighbour)
                        todo.append(neighbour)
            return sum(loads[node] for node in reached)

        assert supplied(without="") == 36_063
        radial = [
            row
            for row in rows
            if row.asset_type in ("line", "switch", "transformer")
            and not row.attributes.get("normally_open")
            and (row.asset_type != "transformer" or not row.attributes.get("redundant"))
        ]
        picked = [row for row in radial[:: len(radial) // 12] if not row.name.endswith("-Side")]
        assert len(picked) >= 12
        for row in picked:
            assert 36_063 - supplied(without=row.name) == row.customers_served, row


class TestWhereAndWhat:
    def test_every_asset_but_a_network_has_coordinates_in_europe(self, rows: list[AssetRow]) -> None:
        for row in rows:
            if row.asset_type == "network":
                assert row.latitude is None and row.longitude is None
            else:
                assert row.latitude and 40 < row.latitude < 60, row
                assert row.longitude and 0 < row.longitude < 25, row

    def test_a_line_is_where_its_middle_is(self, by_id: dict[str, AssetRow], folder: Path) -> None:
        points = {row["id"]: (float(row["x"]), float(row["y"])) for row in table(folder, "Coordinates.csv")}
        nodes = {row["id"]: points[row["coordID"]] for row in table(folder, "Node_physical.csv")}
        start, end = nodes["MV1.101 busbar1.1"], nodes["MV1.101 Bus 4"]
        line = by_id["LIN-MV1.101-Line-1"]
        assert line.longitude == pytest.approx((start[0] + end[0]) / 2, abs=1e-6)
        assert line.latitude == pytest.approx((start[1] + end[1]) / 2, abs=1e-6)

    def test_ratings_come_from_the_type_tables(self, by_id: dict[str, AssetRow]) -> None:
        line = by_id["LIN-MV1.101-Line-1"]
        assert line.voltage_kv == 20
        assert line.location == "HV1, MV1.101, Feeder 1"
        assert line.attributes == {
            "type": "NA2XS2Y 1x70 RM/25 12/20 kV",
            "kind": "cable",
            "length_km": 0.3,
            "rating_a": 220.0,
            "loading_max_percent": 100.0,
            "subnet": "MV1.101_Feeder1",
            "supplied_by": line.attributes["supplied_by"],
        }
        transformer = by_id["TRF-MV1.101-LV1.101-Trafo-1"]
        assert transformer.location == "HV1, MV1.101, Feeder 1, LV1.101"
        assert (transformer.voltage_kv, transformer.attributes["rating_mva"]) == (20, 0.16)


class TestABadFolder:
    def test_names_the_file_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(BadGrid, match=r"Node_physical\.csv is not there"):
            read_assets(tmp_path)

    def test_names_the_reference_that_leads_nowhere(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "grid", copy_function=shutil.copyfile)
        (tmp_path / "grid").chmod(0o755)
        with (tmp_path / "grid" / "Load.csv").open("a") as file:
            file.write("Lost load;No such bus;H0-A;0.1;0.1;0.1;LV1.101;7\n")
        with pytest.raises(BadGrid, match="'Lost load' names the node 'No such bus'"):
            read_assets(tmp_path / "grid")

    def test_names_the_line_with_too_few_fields(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "grid", copy_function=shutil.copyfile)
        (tmp_path / "grid").chmod(0o755)
        (tmp_path / "grid" / "Substation.csv").write_text("id;subnet;voltLvl\nA;B\n")
        with pytest.raises(BadGrid, match=r"Substation\.csv line 2 has 2 fields, its header 3"):
            read_assets(tmp_path / "grid")
