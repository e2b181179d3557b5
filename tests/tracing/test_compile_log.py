"""Structured logs of torch.compile: recompilations with reasons, graph breaks, caches, times, and what cannot be read."""

from __future__ import annotations

import gzip
import io
import json

import pytest
from tests.tracing.compile_logs import ITEM_BREAK, OLD_BREAK, PATH, PRINT_BREAK, Log, files

from advisor_mcp.errors import Cancelled, UsageError
from advisor_mcp.tracing.compile_log import (
    CacheLookup,
    Changed,
    Compilation,
    CompileLog,
    Failure,
    GraphBreak,
    Reason,
    Specialised,
    read_compile_log,
)


def read(*logs: Log) -> CompileLog:
    return read_compile_log(files(logs))


def test_a_compilation_is_told_with_its_function_and_time() -> None:
    log = read(Log().start((0, 0)).metrics((0, 0), 0.25, backend_compile_time_s=0.1, inductor_compile_time_s=0.05))
    assert log.compilations == (
        Compilation(
            rank=None,
            compile_id="0/0",
            frame_id=0,
            number=0,
            function="step",
            where="train.py:7",
            total_ms=250.0,
            backend_ms=100.0,
            inductor_ms=50.0,
            graph_ops=3,
        ),
    )
    assert (log.recompilations, log.breaks, log.restarts, log.failures, log.doubts) == ((), (), 0, (), ())
    assert (log.total_ms, log.span_ms) == (250.0, 2.0)


def test_a_recompilation_is_told_with_the_guard_that_failed() -> None:
    reason = f"0/0: n == 3.0                # def f(x,n): return x*n  # {PATH[1:]}:3 in f\nUser stack trace:\n"
    log = read(Log().start((0, 0)).metrics((0, 0)).reasons((0, 1), reason).start((0, 1)).metrics((0, 1)))
    assert [each.compile_id for each in log.compilations] == ["0/0", "0/1"]
    assert [each.compile_id for each in log.recompilations] == ["0/1"]
    assert log.recompilations[0].reasons == (Reason("n == 3.0", "value", "0/0", "train.py:3 f"),)


def test_several_reasons_come_with_the_latest_version_first() -> None:
    texts = [
        "0/1: tensor 'x' size mismatch at index 0. expected 4, actual 5",
        "0/0: tensor 'x' rank mismatch. expected 1, actual 2",
    ]
    log = read(Log().start((0, 2)).reasons((0, 2), *texts))
    assert [(each.kind, each.against) for each in log.compilations[0].reasons] == [("shape", "0/1"), ("rank", "0/0")]


def test_the_metrics_name_the_reason_where_no_artifact_does() -> None:
    log = read(Log().start((0, 1)).metrics((0, 1), recompile_reason="0/0: len(L['xs']) == 2"))
    assert log.recompilations[0].reasons == (Reason("len(L['xs']) == 2", "length", "0/0", None),)


@pytest.mark.parametrize(
    ("guard", "kind"),
    [
        ("tensor 'x' size mismatch at index 0. expected 3, actual 4", "shape"),
        ("tensor 'x' stride mismatch at index 0. expected 3, actual 4", "stride"),
        ("tensor 'x' dtype mismatch. expected Float, actual Half", "dtype"),
        ("tensor 'x' requires_grad mismatch. expected requires_grad=1", "gradient"),
        ("tensor 'x' dispatch key set mismatch. expected DispatchKeySet(CPU)", "mode"),
        ("GLOBAL_STATE changed: grad_mode ", "mode"),
        ("tensor 'x' Tensor device index mismatch. Expected device index to be 0", "device"),
        ("___check_obj_id(L['fn'], 140439264606080)", "identity"),
        ("len(L['xs']) == 3", "length"),
        ("L['self'].step == 4", "value"),
        ("Eq(L['x'].size()[0], 2)", "shape"),
        ("something new", "other"),
    ],
)
def test_guards_are_told_apart_by_what_they_are_about(guard: str, kind: str) -> None:
    log = read(Log().start((0, 1)).reasons((0, 1), f"0/0: {guard}"))
    assert log.compilations[0].reasons[0].kind == kind


def test_graph_breaks_are_told_with_place_reason_and_hint() -> None:
    log = read(
        Log()
        .start((1, 0))
        .artifact("dynamo_graph_break_reason", ITEM_BREAK, (1, 0))
        .artifact("dynamo_graph_break_reason", PRINT_BREAK, (2, 0))
        .artifact("dynamo_graph_break_reason", OLD_BREAK, (3, 0))
    )
    item = "Unsupported Tensor.item() call with capture_scalar_outputs=False"
    hint = "Set `torch._dynamo.config.capture_scalar_outputs = True` to include these operations."
    assert log.breaks == (
        GraphBreak(None, "1/0", "train.py:8", item, hint, False),
        GraphBreak(None, "2/0", "train.py:9", "Failed to trace builtin operator (print)", None, False),
        GraphBreak(None, "3/0", "train.py:8", "Unsupported: call_method TensorVariable() item", None, False),
    )


def test_restarts_stand_for_breaks_in_logs_that_have_no_artifact_of_them() -> None:
    reasons = ["skip function graph_break\nmore"]
    log = read(
        Log().start((0, 0)).metrics((0, 0), attempt=1, restart_reasons=reasons, dynamo_time_before_restart_s=0.02)
    )
    assert (log.restarts, log.compilations[0].restart_ms) == (1, 20.0)
    assert log.breaks == (GraphBreak(None, "0/0", "train.py:7", "skip function graph_break", None, False),)


def test_a_refusal_at_the_recompile_limit_is_no_recompilation() -> None:
    refused = "Dynamo recompile limit exceeded\n  Explanation: Dynamo attempted to recompile too many times"
    log = read(
        Log()
        .start((0, 7))
        .metrics((0, 7))
        .reasons((0, 8), "0/7: s == 'a'")
        .metrics((0, 8), 0.002, None, fail_type="Unsupported", fail_reason=refused)
    )
    last = log.compilations[-1]
    assert last.failure == Failure("Unsupported", "Dynamo recompile limit exceeded", None, limit=True)
    assert last.name == "step (train.py:7)"
    assert [each.compile_id for each in log.recompilations] == ["0/7"]
    assert log.failures == (last,)


def test_a_failure_is_told_with_its_place() -> None:
    more = {"fail_type": "BackendCompilerFailed", "fail_reason": f"raised at {PATH}", "fail_user_frame_filename": PATH}
    log = read(Log().start((0, 0)).metrics((0, 0), fail_user_frame_lineno=12, **more))
    assert log.failures[0].failure == Failure("BackendCompilerFailed", "raised at train.py", "train.py:12", limit=False)


def test_cache_lookups_are_counted_once_and_told_with_their_reason() -> None:
    log = read(
        Log()
        .chromium("fx_graph_cache_miss", "i", 5.0, key="k1")
        .cache("fx_graph", "miss", key="k1")
        .cache("fx_graph", "bypass", cache_bypass_reason="custom pass")
        .cache("aotautograd", "hit", key="k2", time_saved_ms=1500.0)
        .cache("aotautograd", "miss", cache_status_detailed="guard_miss")
    )
    assert log.lookups == (
        CacheLookup(None, "fx_graph", "miss", "0/0", "k1", None, None),
        CacheLookup(None, "fx_graph", "bypass", "0/0", None, "custom pass", None),
        CacheLookup(None, "aot_autograd", "hit", "0/0", "k2", None, 1500.0),
        CacheLookup(None, "aot_autograd", "guard_miss", "0/0", None, None, None),
    )


def test_cache_events_stand_in_where_there_are_no_artifacts() -> None:
    log = read(Log().chromium("fx_graph_cache_hit", "i", 5.0, key="k1"))
    assert log.lookups == (CacheLookup(None, "fx_graph", "hit", "0/0", "k1", None, None),)


def test_inputs_that_became_dynamic_and_sizes_that_were_pinned_are_told() -> None:
    pinned = {"symbol": "s0", "sources": ["L['x'].size()[0]"], "value": "4", "reason": "guard", "stack": []}
    log = read(
        Log()
        .chromium(
            "automatic_dynamic",
            "i",
            5.0,
            (0, 1),
            name="L['x']",
            dim_changed=0,
            reason="size change",
            cached="3",
            new="4",
        )
        .add("symbolic_shape_specialization", pinned, cid=(0, 1))
    )
    assert log.changed == (Changed("0/1", "L['x']", "0", "3", "4"),)
    assert log.specialised == (Specialised("0/1", ("L['x'].size()[0]",), "4"),)


def test_events_time_the_phases_and_a_frame_without_metrics() -> None:
    log = read(
        Log()
        .start((0, 0))
        .chromium("dynamo", "B", 1000.0)
        .chromium("backend_compile", "B", 2000.0)
        .chromium("backend_compile", "E", 3500.0)
        .chromium("dynamo", "E", 9000.0)
    )
    assert log.phases_ms == {"dynamo": 8.0, "backend_compile": 1.5}
    assert log.compilations[0].total_ms == 8.0


def test_events_on_one_line_are_read_too() -> None:
    event = {"name": "dynamo", "ts": 1000.0, "args": {"compile_id": "0/0"}, "ph": "B"}
    log = read(
        Log()
        .start((0, 0))
        .add("chromium_event", {}, json.dumps(event), (0, 0))
        .add("chromium_event", {}, json.dumps(event | {"ts": 3000.0, "ph": "E"}), (0, 0))
    )
    assert log.phases_ms == {"dynamo": 2.0}


def test_a_frame_compiled_anew_under_its_old_id_counts_twice() -> None:
    log = read(Log().start((0, 0)).metrics((0, 0)).start((0, 0)).metrics((0, 0)))  # torch._dynamo.reset() between
    assert (len(log.compilations), len(log.compile_ids), len(log.recompilations)) == (2, 1, 0)


def test_ranks_of_one_job_stand_side_by_side() -> None:
    log = read(Log(0).start((0, 0)).metrics((0, 0)), Log(1).start((0, 0)).metrics((0, 0)).start((0, 1)).metrics((0, 1)))
    assert log.ranks == (0, 1)
    assert log.compile_ids == {(0, "0/0"), (1, "0/0"), (1, "0/1")}
    assert log.total_ms == 750.0


def test_compiled_autograd_has_ids_of_its_own() -> None:
    log = read(Log().add("dynamo_start", {"stack": []}, compiled_autograd_id=2, frame_id=1, frame_compile_id=0))
    assert log.compile_ids == {(None, "!2/1/0")}


def test_the_backward_compilation_counts_towards_the_time() -> None:
    log = read(Log().start((0, 0)).metrics((0, 0)).add("bwd_compilation_metrics", {"duration_us": 50_000}, cid=(0, 0)))
    assert (log.backward_ms, log.total_ms) == (50.0, 300.0)


def test_the_version_is_named_where_the_log_does() -> None:
    assert read(Log().artifact("torch_version", '{"pytorch_version": "2.13.0"}', None)).torch_version == "2.13.0"


def test_no_directory_is_shown() -> None:
    log = Log().start((0, 1)).metrics((0, 1), fail_type="X", fail_reason=PATH).reasons((0, 1), f"0/0: path == '{PATH}'")
    log.artifact("dynamo_graph_break_reason", ITEM_BREAK, (0, 1)).cache(
        "fx_graph", "bypass", cache_bypass_reason=f"in {PATH}"
    )
    assert "somebody" not in repr(read(log))


def test_a_long_payload_is_skipped_and_not_kept() -> None:
    big = "\n".join(["x" * 1000] * 5000)
    log = read(
        Log()
        .start((0, 0))
        .add("inductor_output_code", {}, big, (0, 0))
        .artifact("fx_graph_runnable", big, (0, 0))
        .metrics((0, 0))
    )
    assert len(log.compilations) == 1
    assert log.doubts == ()


def test_damaged_and_foreign_lines_are_counted_and_the_rest_is_read() -> None:
    broken = b'V1120 23:48:42.900000 1 torch/x.py:1] {"dynamo_start": {"stack": [\n'
    data = (
        Log().start((0, 0)).data
        + broken
        + b"\x00\xff\xfe binary\n\n"
        + b"x" * 3_000_000
        + b"\n"
        + Log().metrics((0, 0)).data
    )
    log = read_compile_log([io.BytesIO(data)])
    assert [each.total_ms for each in log.compilations] == [250.0]
    assert [doubt.name for doubt in log.doubts] == ["damaged-entries", "foreign-lines"]


@pytest.mark.parametrize("cut", [30, 5])
def test_a_log_cut_off_in_its_last_entry_says_so(cut: int) -> None:
    log = read_compile_log([io.BytesIO(Log().start((0, 0)).metrics((0, 0)).data[:-cut])])
    assert [doubt.name for doubt in log.doubts] == ["damaged-entries", "truncated-log"]


def test_a_log_that_ends_before_an_announced_payload_is_cut_off() -> None:
    data = Log().start((0, 0)).artifact("recompile_reasons", "0/0: x", (0, 1)).data.rsplit(b"\t", 1)[0]
    assert "truncated-log" in [doubt.name for doubt in read_compile_log([io.BytesIO(data)]).doubts]


def test_a_last_payload_line_without_its_end_is_whole() -> None:
    data = Log().start((0, 0)).artifact("other", "text", (0, 0)).data[:-1]
    assert read_compile_log([io.BytesIO(data)]).doubts == ()


@pytest.mark.parametrize("wrong", [5, [], {"stack": [{}]}, {"stack": 7}, None])
def test_an_entry_of_a_strange_shape_is_damage_and_no_error(wrong: object) -> None:
    log = read(Log().add("dynamo_start", wrong, cid=(0, 0)).start((1, 0)).metrics((1, 0)))
    assert "1/0" in {cid for _, cid in log.compile_ids}


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x80\x04]\x94.", b'{"traceEvents": []}', b"\tpayload only\n"])
def test_other_files_are_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(UsageError, match="no TORCH_TRACE entries"):
        read_compile_log([io.BytesIO(data)])


def test_a_rank_whose_file_is_empty_is_left_out() -> None:
    assert read_compile_log([io.BytesIO(b""), Log(1).start((0, 0)).file]).ranks == (1,)


def test_the_work_stops_when_the_caller_withdrew() -> None:
    def withdrawn() -> None:
        raise Cancelled("the call was cancelled")

    with pytest.raises(Cancelled):
        read_compile_log([Log().start((0, 0)).file], check=withdrawn)


def test_a_compressed_log_that_breaks_off_says_so() -> None:
    whole = Log()
    for number in range(500):
        whole.start((number, 0)).metrics((number, 0), number / 7)
    with gzip.open(io.BytesIO(gzip.compress(whole.data)[:-200])) as file:
        log = read_compile_log([file])
    assert 0 < len(log.compilations) < 500
    assert "truncated-log" in [doubt.name for doubt in log.doubts]
