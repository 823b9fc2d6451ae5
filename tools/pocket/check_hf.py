"""Checks the exported folder against Hugging Face transformers: python3 check_hf.py MODEL_DIR QA.jsonl...

The rendered template must tokenise to the same ids as the trainer's encoding, the logits must agree, and greedy decoding must
give the teacher-forced result.
"""
import json
import os
import sys

import torch

import export
from encoding import encode, load_tokenizer
from examples import Example
from model import Pocket, dense_mask
from questions import Turn


def main():
    from transformers import AutoModelForCausalLM, AutoTokenizer
    folder, files = sys.argv[1], sys.argv[2:]
    limit = int(os.environ.get("PROMPTS", 4))
    hf_tok, tok = AutoTokenizer.from_pretrained(folder), load_tokenizer(f"{folder}/tokenizer.json")
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = Pocket(dtype=torch.float32)
    export.read_weights(ours, folder)
    same = total = right = 0
    worst = 0.0
    for name in files:
        with open(name, encoding="utf-8") as f:
            lines = [json.loads(line) for _, line in zip(range(limit), f)]
        for e in lines:
            docs = [(d["id"], d.get("title", ""), d["text"]) for d in e["documents"]]
            item = encode([Example(e.get("system", ""), docs, [Turn(e["question"], e["answer"], "", e["kind"])])], tok)[0]
            start, end = item.turns[0][1:3]
            messages = ([{"role": "system", "content": e["system"]}] if "system" in e else []) + [{"role": "user", "content": e["question"]}]
            text = hf_tok.apply_chat_template(messages, documents=e["documents"], add_generation_prompt=True, tokenize=False)
            ids = hf_tok(text, add_special_tokens=False)["input_ids"]
            total, same = total + 1, same + (ids == item.ids[:start].tolist())
            with torch.no_grad():
                x, at = torch.tensor([ids]), torch.arange(len(ids))[None]
                ex = torch.zeros_like(x)
                a = hf(x).logits[0, -1]
                b = ours.head(ours(x, at, dense_mask(ex, ex, at)))[0, -1]
                worst = max(worst, ((a - b).norm() / a.norm()).item())
                out = hf.generate(x, max_new_tokens=120, do_sample=False, pad_token_id=0)[0, x.shape[1]:].tolist()
            answer = hf_tok.decode([i for i in out if i != 2])
            right += answer == e["answer"]
            if answer != e["answer"]:
                print(f"{os.path.basename(name)}: {e['question']}\n  want {e['answer']}\n  got  {answer}")
    print(f"{same} of {total} prompts with equal ids, largest relative logit difference {worst:.1e}, {right} of {total} answers exact")


if __name__ == "__main__":
    main()
