"""What ./bench claims: intervals, verdicts, and which result counts."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bars
import crowd
import contenders
import report
import rows
import summary

MOST = bars.Bar("select-50", "cpu", 0.85, 0.70)
LEAST = bars.Bar("select-50", "tps", 1.15, 1.3, least=True)


def samples(row="select-50", **contenders_):
    """Of each contender its figure `cpu` in each round; None: it failed."""
    return [
        {"row": row, "round": number, "contender": name, **({"failed": "gone\nand more"} if value is None else {"cpu": value})}
        for name, values in contenders_.items() for number, value in enumerate(values)
    ]


def result(*of_rows, version="1"):
    return {"samples": [one for of_row in of_rows for one in of_row], "version": version}


class Intervals(unittest.TestCase):
    def test_an_interval_is_students_over_the_logarithms_of_paired_rounds(self):
        # Worked by hand: logs of 0.5, 0.6, 0.7 are -0.69315, -0.51083, -0.35667; mean -0.52022, s 0.16843, t 4.303 of 2 degrees.
        found = report.ratio(samples(headpond=[5, 12, 21], pgbouncer=[10, 20, 30]), "headpond", "cpu")
        for value, expected in zip(found, (0.59439, 0.39115, 0.90323)):
            self.assertAlmostEqual(value, expected, places=4)

    def test_only_rounds_with_both_are_pairs(self):
        mean, low, _ = report.ratio(samples(headpond=[None, 8], pgbouncer=[10, 10]), "headpond", "cpu")
        self.assertAlmostEqual(mean, 0.8)
        self.assertIsNone(low)
        self.assertIsNone(report.ratio(samples(headpond=[None, 8], pgbouncer=[10]), "headpond", "cpu"))

    def test_added_latency_is_that_beyond_the_server_alone_in_the_same_round(self):
        taken = [
            {"round": number, "contender": name, "p50": value}
            for name, values in {"headpond": [70, 90], "pgbouncer": [80, 110], "direct": [60, 70]}.items()
            for number, value in enumerate(values)
        ]
        mean, _, _ = report.ratio(report.with_added(taken), "headpond", "added")
        self.assertAlmostEqual(mean, 0.5)


class Verdicts(unittest.TestCase):
    def test_a_bar_holds_only_if_the_whole_interval_is_beyond_it(self):
        for low, high, said in ((0.6, 0.86, "not shown"), (0.6, 0.84, "holds"), (0.6, 0.69, "moonshot"), (None, None, "not shown")):
            self.assertEqual(bars.verdict(MOST, low, high), said)
        for low, high, said in ((1.1, 1.5, "not shown"), (1.2, 1.5, "holds"), (1.31, 1.5, "moonshot")):
            self.assertEqual(bars.verdict(LEAST, low, high), said)

    def test_without_a_bar_it_is_who_is_ahead(self):
        for low, high, said in ((0.8, 0.9, "ahead"), (0.9, 1.1, "even"), (1.1, 1.2, "behind")):
            self.assertEqual(bars.verdict(bars.Bar("tpcb", "cpu"), low, high), said)
        self.assertEqual(bars.verdict(bars.Bar("pools-2", "tps", least=True), 1.1, 1.2), "ahead")

    def test_who_fails_in_one_round_holds_nothing(self):
        found = bars.judge(MOST, samples(headpond=[5, 5, None], pgbouncer=[10, 10, 10]))
        self.assertEqual(found.verdict, "headpond failed")
        self.assertEqual(bars.judge(MOST, []).verdict, "not measured")

    def test_a_failure_stands_in_the_table(self):
        row = rows.BY_NAME["select-50"]
        self.assertIn("headpond FAILED in 1 of 2 rounds: gone", report.table(row, samples(headpond=[5, None], pgbouncer=[10, 10])))

    def test_nobody_refused_in_any_round_is_all_that_is_wanted(self):
        bar = next(bar for bar in bars.BARS if bar.key == "admitted")
        all_in, one_out = ([{"round": number, "contender": "headpond", "admitted": value} for number, value in enumerate(values)]
                           for values in ((1, 1, 1), (1, 1, 0.999)))
        self.assertEqual(bars.judge(bar, all_in).verdict, "holds")
        self.assertEqual(bars.judge(bar, one_out).verdict, "not shown")


class Summaries(unittest.TestCase):
    def test_the_newest_result_that_compares_both_counts(self):
        both = result(samples(headpond=[5], pgbouncer=[10]))
        alone = result(samples(headpond=[5]))
        other = result(samples(row="simple", headpond=[5], pgbouncer=[10]))
        self.assertIs(summary.newest(MOST, [both, alone, other]), both)
        again = result(samples(headpond=[4], pgbouncer=[10]))
        self.assertIs(summary.newest(MOST, [both, again, other]), again)
        self.assertIsNone(summary.newest(MOST, [alone, other]))

    def test_only_what_is_between_the_markers_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "page.md"
            file.write_text("before\n<!-- bench summary begins -->\nold\n<!-- bench summary ends -->\nafter\n")
            summary.replace_block(file, r"a \1 b")
            self.assertEqual(file.read_text(), "before\n<!-- bench summary begins -->\n" r"a \1 b" "\n<!-- bench summary ends -->\nafter\n")

    def test_every_bar_is_of_a_row_that_measures_its_figure(self):
        of_kind = {
            "queries": {"cpu", "tps", "p99"}, "copy": {"cpu_mb", "rate"}, "idle": {"bytes"},
            "burst": {"admitted", "all_in", "cpu_login"}, "storm": {"factor", "cpu_login", "logins"},
        }
        for bar in (*bars.BARS, *bars.PLAIN, *bars.OTHERS):
            row = rows.BY_NAME[bar.row]
            measured = of_kind[row.kind] | ({"added"} if row.added else set()) | ({"cpu_mb", "rate"} if row.megabytes else set())
            self.assertIn(bar.key, measured, bar)
            self.assertIn(bar.key, bars.FIGURES)
            self.assertNotIn(bar.contender, row.without)


class Scram(unittest.TestCase):
    def test_the_proof_is_that_of_rfc_7677(self):
        first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        last = crowd.proof(b"pencil", b"n=user,r=rOprNGfwEbeRWgbNEkqO", first)
        self.assertTrue(last.endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))

    def test_a_secret_has_the_form_of_postgresql(self):
        self.assertRegex(contenders.secret("bench"), r"^SCRAM-SHA-256\$4096:[\w+/]{22}==\$[\w+/]{43}=:[\w+/]{43}=$")


if __name__ == "__main__":
    unittest.main()
