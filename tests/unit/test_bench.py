"""bench/run: what it computes and refuses. The measuring itself needs hosts and a quiet machine."""

import argparse
import importlib.machinery
import importlib.util
import pathlib
import urllib.error

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    loader = importlib.machinery.SourceFileLoader("bench_run", str(ROOT / "bench/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
    loader.exec_module(module)
    return module


def table(bench, monkeypatch, **seconds):
    monkeypatch.setattr(bench, "run", lambda argv, **_: "abc1234\n" if "rev-parse" in argv else "")
    results = {key: [{"seconds": value} for value in values] for key, values in seconds.items()}
    for key, values in results.items():
        for value in values:
            if key.startswith("site"):
                value.update(tasks=30, changed=0 if key == "site_second" else 20)
            elif key.endswith("warm"):
                value["steps"] = [("first step", value["seconds"])]
    args = argparse.Namespace(airflow="3.3.2", image="airflow-host:debian12", repeat=3)
    return bench.table(results, args, {"2.10.2": "official constraints"})


def test_table_gives_medians_and_judges_the_aims_by_them(bench, monkeypatch):
    text = table(bench, monkeypatch, seed2_warm=[100, 90, 500], site_warm=[60, 55, 300], site_second=[14, 90, 13],
                 floor_warm=[30.5, 20, 40])
    assert "packages cached | 60.0 | 60.0 (changed=20, 30 tasks), 55.0" in text
    assert "| (b) packages cached, at most 2 times (d) | 1.97 | met |" in text
    assert "at most 0.7 of (a) as written (2.10.2), packages cached | 0.60 | met |" in text
    assert "| (c) at most 15 s, with changed=0 | 14.0 s, changed=0 | met |" in text
    assert "| first step | 30.5 |" in text


def test_table_says_that_an_aim_is_missed(bench, monkeypatch):
    text = table(bench, monkeypatch, seed2_warm=[100], site_warm=[71], site_second=[15.1], floor_warm=[30])
    assert text.count("**missed**") == 3


def test_what_was_not_measured_is_not_judged(bench, monkeypatch):
    assert "aim" not in table(bench, monkeypatch, floor_warm=[30])


def test_results_replace_the_old_ones_only(bench, monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(bench, "README", readme)
    bench.write_readme("new")
    assert readme.read_text(encoding="utf-8") == f"before\n{bench.BEGIN}\nnew\n{bench.END}\nafter\n"


def test_readme_has_a_place_for_the_results(bench):
    text = bench.README.read_text(encoding="utf-8")
    assert text.count(bench.BEGIN) == text.count(bench.END) == 1


def test_unreachable_constraints_are_answered_with_the_option(bench, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("no route")
    monkeypatch.setattr(bench.urllib.request, "urlopen", refuse)
    with pytest.raises(bench.BenchError, match=r"bench/run --constraints 2\.10\.2=FILE"):
        bench.constraints_for("2.10.2", {}, "3.11")


def test_airflow_3_falls_back_to_the_pins_of_the_lock(bench, monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("no route")
    monkeypatch.setattr(bench.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(bench, "WORK", tmp_path)
    path, named = bench.constraints_for("3.3.2", {}, "3.11")
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    assert "apache-airflow==3.3.2" in lines and not [line for line in lines if "--hash" in line or "\\" in line]
    assert "lock" in named


@pytest.mark.parametrize(("argv", "message"), [
    (["--only", "nonsense"], "none of seed"),
    (["--constraints", "2.10.2=/nowhere"], "give VERSION=FILE"),
    (["--repeat", "0"], "at least 1"),
])
def test_bad_options_are_answered_with_what_would_be_good(bench, argv, message):
    with pytest.raises(bench.BenchError, match=message):
        bench.parse(argv)


def test_network_settings_are_passed_only_where_set(bench, monkeypatch):
    for name in ("SSL_CERT_FILE", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    assert bench.network() == {}
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example.org/simple")
    assert bench.network() == {
        "UV_DEFAULT_INDEX": "https://pypi.example.org/simple", "PIP_INDEX_URL": "https://pypi.example.org/simple"
    }


class Hosts:
    """What Docker is asked, of hosts whose caches have this size."""

    def __init__(self, bench, monkeypatch, size):
        self.size, self.environments = size, []
        monkeypatch.setattr(bench, "start_host", lambda _image, _cache=None: None)
        monkeypatch.setattr(bench, "run", self.run)
        monkeypatch.setattr(bench, "on_host", self.on_host)

    def run(self, argv, _log=None, **_options):
        return f"{self.size}\n" if "du -sm" in argv[-1] else ""

    def on_host(self, argv, _log, user="root", env=None):
        self.environments.append(env)
        return {"seconds": 1, "steps": []}


def test_the_tutorial_downloads_nothing_where_packages_are_called_cached(bench, monkeypatch):
    hosts = Hosts(bench, monkeypatch, 400)
    args = argparse.Namespace(image="debian")
    for cached in (False, True):
        bench.measure_seed("3.3.2", "https://example.com/c.txt", args, None, "volume", cached)
    cold, warm = hosts.environments
    assert warm["PIP_NO_INDEX"] == "1" and warm["PIP_FIND_LINKS"] == bench.WHEELS
    assert not {"PIP_NO_INDEX", "PIP_FIND_LINKS"} & cold.keys()


def test_each_cold_run_of_the_tutorial_leaves_its_wheels_to_the_warm_one(bench, monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(bench, "WORK", tmp_path)
    monkeypatch.setattr(bench, "empty_when_free", lambda volume: done.append(f"empty {volume}"))
    monkeypatch.setattr(bench, "measure_seed",
                        lambda *arguments: done.append(arguments[-1]) or {"seconds": 1, "steps": []})
    monkeypatch.setattr(bench, "keep_wheels", lambda _log: done.append("keep"))
    bench.repetition(1, argparse.Namespace(only=["seed3"], airflow="3.3.2"), {"seed3": ""}, {})
    assert done == [f"empty {bench.CACHES['seed3']}", False, "keep", True]


@pytest.mark.parametrize("only", ["seed3", "site", "floor"])
def test_a_row_without_cached_packages_is_not_called_cached(bench, monkeypatch, tmp_path, only):
    Hosts(bench, monkeypatch, 1)
    monkeypatch.setattr(bench, "WORK", tmp_path)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    for name in ("empty_when_free", "keep_wheels"):
        monkeypatch.setattr(bench, name, lambda _argument: None)
    for name in ("measure_site", "measure_floor"):
        monkeypatch.setattr(bench, name, lambda _args, _log: {"seconds": 1, "tasks": 1, "changed": 0, "steps": []})
    results = {}
    with pytest.raises(bench.BenchError, match="holds 1 MB"):
        bench.repetition(1, argparse.Namespace(only=[only], airflow="3.3.2", image="debian"),
                         {"seed3": "https://example.com"}, results)
    assert not [key for key in results if key.endswith("warm")]


@pytest.fixture(scope="module")
def restart():
    loader = importlib.machinery.SourceFileLoader("bench_restart", str(ROOT / "bench/restart"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_restart", loader))
    loader.exec_module(module)
    return module


def test_restarts_are_judged_by_the_worst_of_them(restart, monkeypatch):
    monkeypatch.setattr(restart.bench, "run", lambda _argv: "abc1234\n")
    args = argparse.Namespace(airflow="3.3.2", stops=3, seed=1, load=0.1)
    results = {"server": [{"stop": stop, "away": 4.0, "restart": 5.0} for stop in (0.5, 0.6, 0.9)],
               "triggerer": [{"stop": 1.0, "away": 0.1, "restart": 3.0}] * 3,
               "all": [{"stop": 2.0, "away": 4.0, "restart": seconds} for seconds in (5.0, 5.5, 6.1)]}
    text = restart.table(args, results)
    assert "| the API server | 0.6 | 0.9 | 4.0 | 4.0 | 5.0 | 5.0 |" in text
    assert "| the triggerer | 1.0 | 1.0 | - | - | 3.0 | 3.0 |" in text
    assert "| a whole restart of the API server takes at most 5 s | worst 5.0 s, median 5.0 s | met |" in text
    assert "| a whole restart of all components takes at most 6 s | worst 6.1 s, median 5.5 s | **missed** |" in text


def test_the_readme_has_a_place_for_restarts(restart):
    text = restart.bench.README.read_text(encoding="utf-8")
    assert text.count(restart.BEGIN) == text.count(restart.END) == 1


def test_restarts_need_a_number(restart):
    with pytest.raises(restart.bench.BenchError, match="at least 1"):
        restart.parse(["--stops", "0"])


def test_each_major_has_its_own_units(restart):
    assert restart.units_of(2)["server"] == ["airflow-webserver"]
    assert restart.units_of(3)["all"] == [
        "airflow-scheduler", "airflow-triggerer", "airflow-dag-processor", "airflow-api-server"
    ]
