"""Prints the rows of `pistar doctor --json`: what failed, then the rest."""

import json
import sys


def shown(quantity):
    if isinstance(quantity, dict):
        return f"{quantity['value']:.3g} {quantity['unit']}" if quantity["value"] is not None else "not finite"
    return "" if quantity is None else str(quantity)


def main():
    with open(sys.argv[1]) as f:
        text = f.read()
    if not text:
        sys.exit(f"rows.py: {sys.argv[1]} is empty: the doctor did not get that far")
    found = [(" ".join(filter(None, [part["section"], part.get("of", "")])), row)
             for part in json.loads(text)["sections"] for row in part["rows"]]
    before = None
    for of, row in sorted(found, key=lambda pair: pair[1]["verdict"] != "fail"):
        if of != before:
            print(of)
            before = of
        print(f"  {row['verdict']:<5}{row['name']:<42}{shown(row['found']):>18}{shown(row['bound']):>18}  "
              f"{row.get('remark', '')}")
    print(f"{len(found)} rows, {sum(row['verdict'] == 'fail' for _, row in found)} failed")
    sys.exit(not found)


if __name__ == "__main__":
    main()
