"""pack FROM TO: a run folder with its weights in 8 bits a number (a scale a row); unpack FROM TO: the run folder again."""
import shutil, sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file

def pack(source: Path, target: Path):
    target.mkdir(parents=True)
    for name in ("model.json", "run.json", "recipe.yaml"):
        shutil.copy(source / name, target / name)
    shutil.copytree(source / "tokenizer", target / "tokenizer")
    out = {}
    for name, w in load_file(source / "model.safetensors").items():
        w = w.float()
        if w.dim() == 2:
            scale = w.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            out[name] = (w / scale).round().to(torch.int8)
            out[name + "@scale"] = scale.half() if scale.min() > 1e-5 else scale
        else:
            out[name] = w.half()
    save_file(out, target / "packed.safetensors")

def unpack(source: Path, target: Path):
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("packed.safetensors"))
    t = load_file(source / "packed.safetensors")
    save_file({n: ((w.float() * t[n + "@scale"].float()) if n + "@scale" in t else w.float()).half() for n, w in t.items() if "@" not in n}, target / "model.safetensors")

{"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
