"""Every picture and every number of docs/study.md, in one run; under ten minutes on one core.

    python -m benchmarks.study [--only NAME ...] [--seconds 60] [--data FOLDER] [--out FOLDER] [--page FILE]
        [--json FILE]

It repeats the experiment that the package started from, step by step, on parts of the sample photograph, and writes
pictures, a JSON file of all numbers, and the tables of the page, each between the line <!-- NAME --> and the next
<!-- end -->.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import napari_siren as ns
from benchmarks import machine
from benchmarks.study_between import bands, between, cifar, regularised, upscaled, views, width_one
from benchmarks.study_pixels import memorise, noise, what_it_is, wrapping
from benchmarks.study_tools import EYE, Section, Study, Table
from napari_siren.core.storage.atomic import write_json

SECTIONS: dict[str, Callable[[Study], Section]] = {
    "siren": what_it_is,
    "memorise": memorise,
    "noise": noise,
    "wrapping": wrapping,
    "between": between,
    "cifar": cifar,
    "width_one": width_one,
    "bands": bands,
    "upscaled": upscaled,
    "regularised": regularised,
    "field": views,
}


def run(study: Study, names: list[str], report: dict[str, Any]) -> dict[str, Table]:
    """Make sections, and put what they find into a report; give their tables."""
    tables: dict[str, Table] = {}
    for name in names:
        begin = time.perf_counter()
        section = SECTIONS[name](study)
        seconds = time.perf_counter() - begin
        report[name] = {
            "machine": machine.describe("cpu"),
            "seconds": round(seconds, 1),
            "tables": {title: asdict(table) for title, table in section.tables.items()},
            "spectra": section.spectra,
            "notes": section.notes,
        }
        print(f"{name}, {seconds:.0f} s\n")
        for table in section.tables.values():
            print(table.markdown(), end="\n\n", flush=True)
        tables |= section.tables
    return tables


def fill(page: str, tables: dict[str, Table]) -> str:
    """Put tables in their places in a page.

    Raises
    ------
    ValueError
        A table has no place.
    """
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"the page has no place for the table {name!r}: a line <!-- {name} -->, and <!-- end -->.")
        page = place.sub(lambda match, table=table: f"{match[1]}\n{table.markdown()}\n\n{match[2]}", page)
    return page


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME", help="sections")
    parser.add_argument("--seconds", type=float, default=60.0, help="that the paper's network has to memorise")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with cifar/")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="folder of the pictures")
    parser.add_argument("--page", type=Path, default=Path("docs/study.md"), help="whose tables are written")
    parser.add_argument("--json", type=Path, default=Path("docs/benchmarks/study-cpu.json"))
    arguments = parser.parse_args(options)

    # The images are so small that a second thread only costs.
    torch.set_num_threads(1)
    # The first use compiles the kernel; that is no fit's time.
    ns.fit(EYE[:16, :16], device="cpu", max_steps=3)
    report = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else {}
    tables = run(Study(arguments.out, arguments.data, arguments.seconds), arguments.only, report)
    write_json(arguments.json, {name: report[name] for name in SECTIONS if name in report})
    page = fill(arguments.page.read_text(encoding="utf-8"), tables)
    arguments.page.write_text(page, encoding="utf-8")
    print(f"written to {arguments.out}, {arguments.json} and {arguments.page}")


if __name__ == "__main__":
    main()
