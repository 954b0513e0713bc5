"""Prints the rows of `pistar doctor --json`: what failed, then the rest."""

import json
import sys


def rows(value):
    """Every row in it, wherever it is."""
    if isinstance(value, dict):
        if "verdict" in value and "name" in value:
            yield value
        else:
            for inner in value.values():
                yield from rows(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from rows(inner)


def shown(quantity):
    if isinstance(quantity, dict):
        return f"{quantity['value']:.3g} {quantity['unit']}" if quantity["value"] is not None else "not finite"
    return "" if quantity is None else str(quantity)


def main():
    with open(sys.argv[1]) as f:
        text = f.read()
    if not text:
        sys.exit(f"rows.py: {sys.argv[1]} is empty: the doctor did not get that far")
    found = list(rows(json.loads(text)))
    for row in sorted(found, key=lambda row: row["verdict"] != "fail"):
        print(f"{row['verdict']:<5}{row['name']:<44}{shown(row['found']):>18}{shown(row['bound']):>18}  "
              f"{row.get('remark', '')}")
    print(f"{len(found)} rows, {sum(row['verdict'] == 'fail' for row in found)} failed")
    sys.exit(not found)


if __name__ == "__main__":
    main()
