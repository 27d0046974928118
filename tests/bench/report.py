"""The benchmark's figures for people: report.json as it is, report.md with tables and one chart."""

import json
import statistics

# What is reached at least; of the others, at most.
WANTED = {"clickhouse": 1.5, "pyarrow": 2.0, "get_ceiling": 0.8, "get_ceiling_mixed": 0.8, "two_exporters_with_processors_to_spare": 1.8}
AT_MOST = {"size_to_clickhouse": 1.03, "time_of_most_to_least_rows": 10.5}
WORDS = {
    "tracelift": "Tracelift",
    "clickhouse": "ClickHouse's own writer",
    "pyarrow": "pyarrow pipeline",
    "get_ceiling": "bare GET loop",
    "get_ceiling_mixed": "bare GET loop, mixed sizes",
    "size_to_clickhouse": "bytes, to those of ClickHouse's own writer",
    "time_of_most_to_least_rows": "seconds of the most rows, to those of the least",
    "two_exporters": "two exporters, to one, on all processors",
    "two_exporters_with_processors_to_spare": "two exporters, to one, a third of a processor each",
}
BAR, ROW, LEFT = 420, 26, 190


def write(figures, folder):
    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    lines = ["# Benchmark", "", machine(figures["machine"]), "", *ratios(figures["ratios"])]
    if inline := figures.get("inline"):
        (folder / "inline.svg").write_text(chart(f"{inline['rows']:,} rows, seconds (median)", medians(inline["turns"], lambda turn: turn["wall_s"]), "s"))
        lines += ["", f"## {inline['rows']:,} rows inline", "", "![](inline.svg)", "", *turns(inline["turns"])]
    for mix, part in figures.get("offloaded", {}).items():
        rates = medians(part["turns"], lambda turn: turn["objects"] / turn["wall_s"])
        (folder / f"offloaded-{mix}.svg").write_text(chart(f"{mix} objects, objects a second (median)", rates, "/s"))
        lines += ["", f"## {part['rows']:,} rows offloaded, {mix} objects", "", f"![](offloaded-{mix}.svg)", "", *turns(part["turns"])]
    if growth := figures.get("growth"):
        lines += ["", "## Growth", "", "| what | rows | exporters | seconds | CPU seconds of exporters, ClickHouse, S3 | peak MiB of one | files |", "|---|---|---|---|---|---|---|"]
        for turn in growth:
            cpu = ", ".join(f"{turn[name]:.1f}" for name in ("exporter_cpu_s", "clickhouse_cpu_s", "s3_cpu_s"))
            cells = [turn["what"], f"{turn['rows']:,}", turn["exporters"], f"{turn['wall_s']:.1f}", cpu, turn["peak_bytes"] >> 20, turn["files"]]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    if fleets := figures.get("control_plane"):
        measured = {name: told for name, told in fleets.items() if "failed" not in told}
        lines += ["", "## The control plane and its simulated fleet", "", *(control_plane(measured) if measured else [])]
        lines += [f"\n{name} was not measured to the end: {told['failed']}" for name, told in fleets.items() if "failed" in told]
    if stages := figures.get("stages"):
        lines += ["", "## Hot pure parts, on one thread", "", "| | of | milliseconds, median | a second |", "|---|---|---|---|"]
        lines += [f"| {name} | {told['elements']:,} {told['unit']} | {told['ms']:,} | {told['per_s']:,} |" for name, told in stages.items()]
    (folder / "report.md").write_text("\n".join(lines) + "\n")


def machine(told):
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return f"{told['cpu']}, {told['cores']} processors, {told['memory_gib']} GiB; {versions}. Only ratios carry over to other machines."


def ratios(told):
    lines = ["| Speed against (or what is said) | ratio | wanted |", "|---|---|---|"]
    for name, ratio in told.items():
        wanted = f"at least {WANTED[name]}" if name in WANTED else f"at most {AT_MOST[name]}" if name in AT_MOST else ""
        lines.append(f"| {WORDS.get(name, name)} | {ratio} | {wanted} |")
    return lines


def turns(told):
    lines = ["| | seconds, each round | CPU seconds, median | CPU s per million rows | MiB written | peak MiB |", "|---|---|---|---|---|---|"]
    for name, rounds in told.items():
        walls = ", ".join(f"{turn['wall_s']:.2f}" for turn in rounds)
        cpu = statistics.median(turn["cpu_s"] for turn in rounds)
        rows = rounds[0].get("rows")
        cells = [WORDS.get(name, name), walls, f"{cpu:.1f}", f"{cpu / rows * 1e6:.1f}" if rows else "", mebibytes(rounds, "bytes"), mebibytes(rounds, "peak_bytes")]
        lines.append("| " + " | ".join(cells) + " |")
    last = told["tracelift"][-1]
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in last["stage_seconds"].items())
    return [*lines, "", f"Tracelift's last round: stage seconds of all runs {stages}; CPU seconds of the S3 server {last['s3_cpu_s']:.1f}."]


def control_plane(told):
    """A row a figure, a column a database. Times are p50 / p99 / most, in milliseconds."""
    times = {
        ("paced", "free_slot_to_assignment"): "free slot to assignment, paced; p99 wanted: 100 ms",
        ("calm", "create_call_begun_to_assignment"): "idle fleet: an export asked for to its assignments",
        ("saturated", "free_slot_to_assignment"): "free slot to assignment at the most",
        ("cancel", "cancel_call_begun_to_delivery"): "cancel asked for to delivery; p99 wanted: 250 ms",
        ("saturated", "create_call"): "call that creates an export, while every slot is taken",
        ("connect", "welcome"): "connection to welcome, while all connect",
    }
    rates = {
        ("saturated", "assignments_per_s"): "assignments a second, most",
        ("paced", "assignments_per_s"): "assignments a second, paced",
        ("cancel", "cancels_per_s"): "cancels a second",
    }
    rows = [["exporters", *(told[name]["connect"]["exporters"] for name in told)]]
    rows += [[words, *(f"{told[name][phase][figure]:,.0f}" for name in told)] for (phase, figure), words in rates.items()]
    rows += [[f"{words} (ms)", *(spread(told[name][phase][figure]) for name in told)] for (phase, figure), words in times.items()]
    for phase in ("idle", "saturated", "paced", "cancel"):
        rows.append([f"CPU seconds, {phase}", *(cpu(told[name][phase]) for name in told)])
    rows.append(["peak MiB", *(told[name]["peak_bytes"] >> 20 for name in told)])
    lines = ["| | " + " | ".join(told) + " |", "|---" * (len(told) + 1) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def spread(told):
    return " / ".join(f"{told[part]:,.1f}" for part in ("p50_ms", "p99_ms", "max_ms")) if told["count"] else "none"


def cpu(phase):
    database = f", database {phase['database_cpu_s']:.1f}" if "database_cpu_s" in phase else ""
    return f"{phase['cpu_s']:.1f}{database}"


def mebibytes(rounds, field):
    return str(max(turn[field] for turn in rounds) >> 20) if rounds[0].get(field) else ""


def medians(told, figure):
    return {WORDS.get(name, name): statistics.median(figure(turn) for turn in rounds) for name, rounds in told.items()}


def chart(title, values, unit):
    """Bars, in plain SVG."""
    widest, height = max(values.values()), ROW * len(values) + 40
    text = 'font-family="sans-serif" font-size="13" fill="#555"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + BAR + 90}" height="{height}" role="img" aria-label="{title}">']
    lines.append(f'<text x="0" y="16" {text} font-weight="bold">{title}</text>')
    for number, (name, value) in enumerate(values.items()):
        top, width = 30 + number * ROW, max(1, round(value / widest * BAR))
        fill = "#2a7de1" if number == 0 else "#b8c4d0"
        lines.append(f'<text x="0" y="{top + 14}" {text}>{name}</text>')
        lines.append(f'<rect x="{LEFT}" y="{top}" width="{width}" height="18" fill="{fill}"/>')
        lines.append(f'<text x="{LEFT + width + 6}" y="{top + 14}" {text}>{value:,.2f} {unit}</text>' if value < 100 else f'<text x="{LEFT + width + 6}" y="{top + 14}" {text}>{value:,.0f} {unit}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
