"""Typical slips in the code, one at a time, and the tests that have to see each."""

from mutations import Bug

# Leaving out a flush is seen by test_power_loss.py itself.
RUN_BUGS = {
    "no comparison of hashes": Bug(
        "fastlm/checkpoint/__init__.py",
        'if found != expected[path.name]["sha256"]:',
        "if False:",
        "tests/checkpoint/test_checkpoint.py -k every_damage",
    ),
    "no hash of the manifest": Bug(
        "fastlm/files/sealed.py",
        "if found != _hash(values):",
        "if False:",
        "tests/checkpoint/test_checkpoint.py -k every_damage",
    ),
    "no hash of token files": Bug(
        "fastlm/files/tokens.py",
        "if self.hash is not None and digest.hexdigest() != self.hash:",
        "if False:",
        "tests/data/test_prepared.py -k not_what_meta_says",
    ),
    "written in its place at once": Bug(
        "fastlm/checkpoint/__init__.py",
        "with disk.whole_folder(final, replace=True) as partial:",
        "for partial in [final] if final.mkdir() is None else []:",
        "tests/checkpoint/test_power_loss.py -k any_moment",
    ),
    "older ones removed before the new one": Bug(
        "fastlm/checkpoint/__init__.py",
        "    final = folder / step_folder(snapshot.step)\n",
        "    final = folder / step_folder(snapshot.step)\n"
        "    for path in run_checkpoints(folder)[:1]:\n        disk.remove_folder(path)\n",
        "tests/checkpoint/test_saver.py -k refuses_anything",
    ),
    "the log flushed after the rename": Bug(
        "fastlm/checkpoint/__init__.py",
        "        if before_rename is not None:\n            before_rename()\n",
        "    if before_rename is not None:\n        before_rename()\n",
        "tests/checkpoint/test_power_loss.py -k any_moment",
    ),
    "steps that are not finite applied": Bug(
        "fastlm/train/trainer.py",
        "return is_finite & ~is_one_too_many",
        "return torch.ones_like(is_finite)",
        "tests/train/test_watch.py -k weights_as_before",
    ),
    "gradients that are not finite kept": Bug(
        "fastlm/optim/__init__.py",
        "grad.masked_fill_(held_back, 0.0)",
        "pass",
        "tests/train/test_watch.py -k changes_nothing",
    ),
    "a row of the log half written": Bug(
        "fastlm/files/disk.py",
        "os.ftruncate(handle, end)",
        "pass",
        "tests/checkpoint/test_saver.py -k log_rows_wait",
    ),
    "a process leaves before the run is written": Bug(
        "fastlm/train/run.py",
        "        ranks.wait()  # torchrun ends",
        "        pass  # torchrun ends",
        "tests/devices/test_ranks.py -k no_process_leaves",
    ),
    "the log has the losses of one process": Bug(
        "fastlm/train/trainer.py",
        "            self.ranks.sum_(total)\n",
        "            pass\n",
        "tests/devices/test_ranks.py -k train_as_one",
    ),
    "the second signal waits": Bug(
        "fastlm/train/signals.py",
        "            raise KeyboardInterrupt",
        "            return",
        "tests/train/test_signals.py -k second_stops",
    ),
    "weights that are not finite saved": Bug(
        "fastlm/train/saving.py",
        "if (what := trainer.what_is_not_finite()) is not None:",
        "if False:",
        "tests/train/test_watch.py -k update_breaks",
    ),
    "the end of a resumed run not kept": Bug(
        "fastlm/train/resuming.py",
        "    record.write_config(config)\n",
        "    record.config()\n",
        "tests/train/test_resuming.py -k new_end",
    ),
    "a summary beside an earlier checkpoint": Bug(
        "fastlm/runs/record.py",
        "            disk.rename(files.summary, files.former_summary, flush=False)\n",
        "            disk.copy_file(files.summary, files.former_summary)\n",
        "tests/train/test_resuming.py -k killed_while",
    ),
}

_PARITY = "tests/kernels/test_kernels.py -k 'errors_are_those and {}'"

KERNEL_BUGS = {
    "wrong mask": Bug(
        "kernels/cross_entropy.py",
        'z = tl.where(in_row, z, -float("inf"))',
        "z = z",
        _PARITY.format("cross_entropy-7x123"),
    ),
    "int32 offset": Bug(
        "kernels/rms_norm.py",
        "rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)",
        "rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)",
        "tests/kernels/test_kernels.py -k two_billion",
    ),
    "missing rows of the weight's gradient": Bug(
        "kernels/linear_cross_entropy.py",
        "        if dweight is not None:\n            _add_product",
        "        if dweight is not None and begin == 0:\n            _add_product",
        "tests/kernels/test_linear_cross_entropy.py -k chunks_give",
    ),
    "ignored row not written": Bug(
        "kernels/cross_entropy.py",
        "tl.store(loss_ptr + row, tl.where(is_counted, loss, 0.0))",
        "tl.store(loss_ptr + row, loss, is_counted)",
        "tests/kernels/test_kernels.py -k 'every_element and cross_entropy'",
    ),
    "wrong scale by the number of counted targets": Bug(
        "kernels/cross_entropy.py",
        "(targets != ignore_index).sum().clamp(min=1)",
        "max(targets.numel(), 1)",
        _PARITY.format("cross_entropy-7x123-0"),
    ),
    "sum in bfloat16": Bug(
        "kernels/linear_cross_entropy.py",
        "hidden.new_empty(weight.shape if wants_dweight else (0,), dtype=sum_dtype(hidden))",
        "hidden.new_empty(weight.shape if wants_dweight else (0,))",
        "tests/kernels/test_linear_cross_entropy.py -k summed_in_float32",
    ),
    "block too few": Bug(
        "kernels/softmax.py",
        "for begin in range(0, n_columns, BLOCK):",
        "for begin in range(0, n_columns - BLOCK, BLOCK):",
        _PARITY.format("softmax-2x16411"),
    ),
    "swapped sign of the rotation": Bug(
        "kernels/rope.py", "sin = -sin", "sin = sin", _PARITY.format("rotate_pairs-3x33x64")
    ),
    "a weight's gradient of keys in that of queries": Bug(
        "kernels/qkv_norm_rope.py",
        "dq_weight += tl.where(part == 0, dweight, 0.0)",
        "dq_weight += dweight",
        _PARITY.format("qkv_norm_rope-7x3x6-1"),
    ),
    "gradient of the other columns not written": Bug(
        "kernels/qkv_norm_rope.py",
        "tl.store(dqkv_ptr + in_dqkv + after, rest, is_other)",
        "tl.store(dqkv_ptr + in_dqkv + after, rest, is_other & (rest != rest))",
        "tests/kernels/test_kernels.py -k 'every_element and qkv_norm_rope'",
    ),
    "the last tile's columns of a product": Bug(
        "kernels/relu2_ffn.py",
        "is_row, is_column = rows < n_rows, columns < n_columns",
        "is_row, is_column = rows < n_rows, columns < n_columns - 1",
        _PARITY.format("relu2_ffn-2x3x33x123-0"),
    ),
    "gradient of a square without its 2": Bug(
        "kernels/relu2_ffn.py",
        "y = 2.0 * positive * total",
        "y = positive * total",
        "tests/kernels/test_kernels.py -k 'finite_differences and relu2_ffn'",
    ),
    "missing gradient of the residual": Bug(
        "kernels/rms_norm.py",
        "dx += dsum.to(ACCURATE)",
        "dx += 0 * dsum.to(ACCURATE)",
        _PARITY.format("add_rms_norm-7x123"),
    ),
    "-inf minus -inf": Bug(
        "kernels/softmax.py",
        "highest = tl.full((), LOWEST, ACCURATE)",
        'highest = tl.full((), -float("inf"), ACCURATE)',
        "tests/kernels/test_kernels.py -k extreme_rows",
    ),
    "a query sees the next key": Bug(
        "kernels/attention.py",
        "return tl.minimum(row + (n_keys - n_queries), n_keys - 1)",
        "return tl.minimum(row + (n_keys - n_queries) + 1, n_keys - 1)",
        _PARITY.format("attention-2x1x7x7x32"),
    ),
    "gradient of the scores without its mean": Bug(
        "kernels/attention.py",
        "dscores = (p * (dp - delta[:, None])).to(k.dtype)",
        "dscores = (p * dp).to(k.dtype)",
        _PARITY.format("attention-2x1x7x7x32"),
    ),
    "decay after the step": Bug(
        "kernels/adamw.py",
        "param = param - tl.full((), decay, ACCURATE) * param - change",
        "param = (param - change) * (1 - tl.full((), decay, ACCURATE))",
        _PARITY.format("adamw-1x7x1000"),
    ),
    "mirrored tile not written": Bug(
        "kernels/symmetric_product.py",
        "tl.store(y_ptr + above, tl.trans(y)",
        "tl.store(y_ptr + below, y, is_below) if 1 > 0 else tl.store(y_ptr + above, tl.trans(y)",
        "tests/kernels/test_kernels.py -k 'every_element and symmetric or errors_are_those and symmetric'",
    ),
}
