"""What was measured, as tables. Every ratio of a request is given to the raw and to the correct floor."""

from __future__ import annotations

import typing as t

from benchmarks.contenders import NAMES

Results = dict[str, t.Any]


def text(results: Results) -> str:
    """All tables of what was measured on one kind of server."""
    return "\n".join(
        [
            *_requests(results.get("requests") or {}),
            *_sizes(results.get("sizes") or {}),
            *_sessions(results.get("sessions") or {}),
            *_layer(results.get("layer") or {}),
            *_operations(results.get("operations") or {}),
            *_served(results.get("served") or {}),
            *_scale(results.get("scale") or {}),
            *_imports(results.get("imports") or {}),
        ]
    )


def _requests(cases: Results) -> t.Iterator[str]:
    if cases:
        yield "\nWhole requests, in process (Flask-Session as shipped scans its collection)"
    for case, rows in cases.items():
        base = "route without a session" if case == "untouched" else "raw floor"
        yield f"\n  {case} ('raw': {base} = 1.00)"
        yield f"    {'':36}{_FLOORS}{_TIMES}{'bytes':>7}  commands"
        for name, row in rows.items():
            commands = " + ".join(row["commands"]) or "none"
            yield f"    {NAMES[name]:36}{_floors(row)}{_times(row)}{row['bytes']:7}  {commands}"


def _sizes(sizes: Results) -> t.Iterator[str]:
    yield from _small_tables(
        "Large sessions", {f"{size}, {case}": rows for size, cases in sizes.items() for case, rows in cases.items()}
    )


def _sessions(levels: Results) -> t.Iterator[str]:
    yield from _small_tables(
        "A read-only request", {f"beside {level} sessions": rows for level, rows in levels.items()}
    )


def _small_tables(title: str, tables: dict[str, Results]) -> t.Iterator[str]:
    if tables:
        yield f"\n{title}"
    for name, rows in tables.items():
        yield f"\n  {name}"
        yield f"    {'':36}{_FLOORS}{_TIMES}"
        for who, row in rows.items():
            yield f"    {NAMES[who]:36}{_floors(row)}{_times(row)}"


def _layer(cases: Results) -> t.Iterator[str]:
    if cases:
        yield "\nThe layer alone, the driver stubbed: processor time. Layer: the request less a route without sessions"
    for case, rows in cases.items():
        yield f"\n  {case}"
        yield f"    {'':36}{'/ raw':>7}{'/ correct':>11}{'request':>11}{'(wall)':>11}{'layer':>11}{_CALLS}"
        for name, row in rows.items():
            ratios = "".join(
                f"{_ratio(row, label, 'client'):>{width}}" for label, width in (("raw", 7), ("correct", 11))
            )
            times = "".join(f"{row[key]:8.1f} us" for key in ("client_us", "wall_us", "layer_us"))
            yield f"    {NAMES[name]:36}{ratios}{times}{row['layer_to_correct']:11.2f}{row.get('calls', '-'):>7}"


def _operations(operations: Results) -> t.Iterator[str]:
    if operations:
        yield "\nStore operations"
    for operation, rows in operations.items():
        base = list(rows)[-1]
        yield f"\n  {operation}: {base} = 1.00"
        yield f"    {'':36}{'ratio':>7}  {'quartiles':11}{_TIMES}{'bytes':>7}  commands"
        for name, row in rows.items():
            ratio = f"{_ratio(row, 'base'):>7}  {_quartiles(row, 'base'):11}"
            yield f"    {NAMES.get(name, name):36}{ratio}{_times(row)}{row['bytes']:7}  {' + '.join(row['commands'])}"


def _served(rows: Results) -> t.Iterator[str]:
    if not rows:
        return
    yield "\nServed by gunicorn to wrk, a read-only request: processor time of worker and server"
    yield f"    {'':36}{'/ raw':>7}{'/ correct':>11}{'worker':>11}{'server':>11}{'requests/s':>12}"
    for name, row in rows.items():
        ratios = f"{row['cpu_to']['raw']:7.2f}{row['cpu_to']['correct']:11.2f}"
        times = f"{row['client_us']:8.0f} us{row['server_us']:8.0f} us{row['requests_per_second']:12.0f}"
        yield f"    {NAMES[name]:36}{ratios}{times}"


def _scale(scale: Results) -> t.Iterator[str]:
    if not scale:
        return
    sweep, storage = scale["sweep"], scale["storage"]
    yield f"\n{scale['sessions']:,} sessions, half of them expired"
    yield f"    bytes of a session, on the disk: {storage['bytes']:.0f}, {storage['disk_bytes']:.0f}"
    yield f"    find among all / among 1,000: {_ratio(scale['find']['all'], 'a thousand')}"
    for name in ("ours", "raw"):
        finds, rate = sweep[name]["finds"], sweep[name]["per_second"]
        yield f"    sweep, {name}: {rate:,.0f}/s; finds beside it {_finds(finds)}"
    yield f"    finds without a sweep {_finds(sweep['quiet'])}"
    for name, row in scale["iterate"].items():
        yield f"    all live ones by {name}: {row['seconds']:.1f} s, {row['memory'] / 1e6:.0f} MB more memory"


def _finds(finds: Results) -> str:
    return f"(median, p99): {finds['median_us']:.0f} us, {finds['p99_us']:.0f} us"


def _imports(imports: Results) -> t.Iterator[str]:
    if imports:
        yield "\nImport, over flask and mongoengine"
        yield f"    CPU: {imports['ratio']:.2f}, memory: {imports['memory'] / 1e6:.1f} MB"


_CALLS = f"{'/ correct':>11}{'calls':>7}"
_FLOORS = f"{'/ raw':>7}  {'quartiles':11}{'/ correct':>10}"
_TIMES = f"{'wall':>11}{'client CPU':>12}{'server CPU':>12}"


def _floors(row: Results) -> str:
    return f"{_ratio(row, 'raw'):>7}  {_quartiles(row, 'raw'):11}{_ratio(row, 'correct'):>10}"


def _ratio(row: Results, label: str, what: str = "wall") -> str:
    return f"{row['to'][label][what]:.2f}" if label in row["to"] else "-"


def _quartiles(row: Results, label: str) -> str:
    ratio = row["to"].get(label, {})
    return f"{ratio['low']:.2f}-{ratio['high']:.2f}" if "low" in ratio else ""


def _times(row: Results) -> str:
    known = (("wall_us", 8), ("client_us", 9), ("server_us", 9))
    return "".join(f"{row[key]:{width}.0f} us" if key in row else f"{'-':>{width + 3}}" for key, width in known)
