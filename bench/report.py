# SPDX-License-Identifier: GPL-2.0-or-later
"""./dev bench --report: one HTML page that needs no network, with every table and plot, the goals, the machine and the method."""
import html
import os
import re
import tempfile

import results

# What we want to reach: (figure, relation, goal, what it is)
GOALS = (
    ("rr.ratio_1conn", ">=", 0.65, "request/response, one connection, protected / stock unprotected"),
    ("rr.same_path_ratio_1conn", ">=", 0.65, "the same, against the same way of sending"),
    ("rr.same_path_ratio_32conn", ">=", 0.97, "32 connections, against the same way of sending"),
    ("bulk.ratio_out", ">=", 0.90, "bulk transfer out of the guest, protected / stock"),
    ("bulk.ratio_in", ">=", 0.90, "bulk transfer into the guest, protected / stock"),
    ("cpu.ratio_25ms", ">=", 0.97, "a guest that computes, epochs of 25 ms"),
    ("pause_us.p50", "<=", 20, "pause of a checkpoint, median, µs"),
    ("pause_us.p99", "<=", 150, "pause of a checkpoint, 99 %, µs"),
    ("commit_us.p50", "<=", 50, "commit, median, µs"),
    ("bytes_per_checkpoint", "<=", 3000, "bytes on the wire for a checkpoint under request/response"),
    ("gap.kill_ms", "<=", 50, "longest gap of a client at kill -9, median, ms"),
    ("tracker.ratio_16g_512m", "<=", 1.1, "cost of a checkpoint at 16 GB over 512 MB, same writes"),
    ("probe.sigsegv_ms_p50", "<=", 1, "SIGSEGV in the guest, from the fault to a reader on the host, median, ms"),
    ("probe.oom_ms_p50", "<=", 1, "out of memory in the guest, the same, median, ms"),
    ("probe.cold_overhead", "<=", 0.01, "what all shipped probes cost while none is hit"),
    ("disk.uncached_read_qd1_ms", "<=", 20.5, "relocating disk, uncached read, one at a time, over a wire of 20 ms, ms"),
    ("disk.uncached_read_qd32_iops", ">=", 1550, "uncached reads, 32 at a time, 1/s"),
    ("disk.cached_beside_uncached_ratio", ">=", 0.9, "cached reads beside uncached ones, over cached reads alone"),
    ("disk.relocate_idle_s", "<=", 4.8, "everything at the destination, no other load, s"),
    ("disk.relocate_loaded_s", "<=", 6, "the same under 400 requests a second, s"),
    ("disk.fg_read_ms", "<=", 11, "reads meanwhile, mean, ms"),
    ("disk.fg_write_ms", "<=", 0.4, "writes meanwhile, mean, ms"),
    ("snapshot.first_stop_ms", "<=", 2, "first snapshot, the guest stopped, ms"),
    ("snapshot.next_stop_ms", "<=", 1, "following snapshot, 10 MB written, the guest stopped, ms"),
    ("snapshot.next_total_ms", "<=", 30, "the same, until it is durable, ms"),
    ("snapshot.client_gap_ms", "<=", 10, "a client's longest wait while the first is taken, ms"),
    ("snapshot.restore_ms_256m", "<=", 150, "a restore on demand, 256 MB, from the command to a client's answer, ms"),
    ("snapshot.restore_ms_4g", "<=", 150, "the same, 4 GB"),
    ("snapshot.restore_ready_ms_256m", "<=", 150, "a restore that was kept ready, 256 MB, from the word to go to a client's answer, ms"),
    ("snapshot.restore_ready_ms_4g", "<=", 150, "the same, 4 GB"),
    ("kills.lost", "<=", 0, "acknowledged and lost, over all kills"),
    ("kills.doubled", "<=", 0, "done twice, over all kills"),
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; } .quiet { color: #666; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #eee; } th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; } .met { color: #00663d; } .missed { color: #a33b00; } svg { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 12px; }
"""


def draw(case, folder, result):
    """Names of the SVG files of a case's plots."""
    return case.plot(folder, result) if hasattr(case, "plot") else []


def _escape(text):
    return html.escape(str(text))


def _row(cells, kind="td"):
    return "<tr>" + "".join(f"<{kind}>{_escape(cell)}</{kind}>" for cell in cells) + "</tr>"


def _value(value):
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _goals(result):
    rows = []
    for key, relation, goal, what in GOALS:
        value = result.get(key)
        if value is None:
            continue
        met = value >= goal if relation == ">=" else value <= goal
        rows.append(f"<tr><td class='text'>{_escape(what)}<br><span class='quiet'>{_escape(key)}</span></td>"
                    f"<td>{'≥' if relation == '>=' else '≤'} {goal:g}</td><td class='{'met' if met else 'missed'}'>{_value(value)} "
                    f"{'✓' if met else '✗'}</td></tr>")
    if not rows:
        return ""
    return (f"<h2>Goals</h2><p>First configuration of each case.</p><table>{_row(['figure', 'goal', 'measured'], 'th')}" +
            "".join(rows) + "</table>")


def _figures(result, keys):
    names = [name for name in result["configurations"] if any(key in result[name] for key in keys)]
    rows = [_row([key] + [_value(result[name].get(key)) for name in names]) for key in keys]
    return "<div class='wide'><table>" + _row(["figure"] + names, "th") + "".join(rows) + "</table></div>"


def _inline(path, prefix):
    """An SVG file's element without what is said about it, its identifiers made its own."""
    with open(path, encoding="utf-8") as handle:
        text = handle.read()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.DOTALL)
    return re.sub(r'((?:id="|url\(#|href="#))', rf"\g<1>{prefix}-", text)


def _case(case, result, folder):
    keys = [key for key in results.keys_of(result) if key in case_keys(case, result)]
    plots = "".join(f"<figure>{_inline(os.path.join(folder, name), name.removesuffix('.svg'))}</figure>"
                    for name in draw(case, folder, result))
    return f"<h2>{_escape(case.TITLE)}</h2><p>{_escape(case.ABOUT)}</p>{plots}{_figures(result, keys)}"


def case_keys(case, result):
    return result["of_case"][case.NAME]


def _machine(method):
    return "<h2>Machine and method</h2><table>" + "".join(_row([key, method[key]]) for key in sorted(method)) + "</table>"


def _method_text():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "README.md"), encoding="utf-8") as handle:
        return f"<pre>{_escape(handle.read())}</pre>"


def write(path, result, cases):
    with tempfile.TemporaryDirectory() as folder:
        body = "".join(_case(case, result, folder) for case in cases)
    method = result["method"]
    page = (f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
            f"<title>Futago benchmarks</title><style>{STYLE}</style><h1>Futago benchmarks</h1>"
            f"<p class='quiet'>{_escape(method['taken'])}, commit {_escape(method['commit'])}, {_escape(method['processor'])}, "
            f"{_escape(method['cores'])} cores, {_escape(method['qemu'])}</p>"
            f"<p>Rates move with the machine's load; read the ratios, which compare neighbours of one run. "
            f"{'A smoke test: no figure here is to be quoted. ' if method['quick'] else ''}</p>"
            f"{_goals(result)}{body}{_machine(method)}{_method_text()}</html>\n")
    partial = path + ".part"
    with open(partial, "w", encoding="utf-8") as handle:
        handle.write(page)
    os.replace(partial, path)
