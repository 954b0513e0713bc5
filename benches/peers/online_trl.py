"""One on-policy run of TRL on the CPU, for run_online.py: RLOO, seconds and tokens as JSON.

Prompts, completions a prompt, new tokens, steps and threads are given; every completion has all its tokens (none
of the two sides lets one end), so that both do the same work.
"""

import json
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
os.environ["WANDB_DISABLED"] = "true"

import torch  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback  # noqa: E402


class Clock(TrainerCallback):
    """Seconds of each step, generation and scoring included."""

    def __init__(self):
        self.times = []

    def on_step_begin(self, *_, **__):
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.times.append(time.perf_counter() - self.began)


def main():
    given = json.load(sys.stdin)
    torch.set_num_threads(given["threads"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=given["model"] + "/tokenizer.json",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        padding_side="left",
    )
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    # Nothing ends: as on the other side, where it is unlikely.
    model.generation_config.eos_token_id = None
    config = trl.RLOOConfig(
        output_dir=given["out"],
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=given["prompts"] * given["completions"],
        num_generations=given["completions"],
        max_completion_length=given["tokens"],
        max_steps=given["steps"],
        learning_rate=1e-5,
        beta=0.05,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        temperature=1.0,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    clock = Clock()

    def reward(completions, **_):
        return [float(len(c)) for c in completions]

    rows = Dataset.from_list([{"prompt": text} for text in given["texts"]])
    trainer = trl.RLOOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[clock],
    )
    began = time.perf_counter()
    trainer.train()
    whole = time.perf_counter() - began
    lengths = [row["completions/mean_length"] for row in trainer.state.log_history if "completions/mean_length" in row]
    peak = 0
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            peak = int(line.split()[1]) * 1024
    versions = {"trl": trl.__version__, "torch": torch.__version__}
    result = {"steps": clock.times, "whole": whole, "lengths": lengths, "peak": peak, "versions": versions}
    print("RESULT " + json.dumps(result))


main()
