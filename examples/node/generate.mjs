// Reads source token ids (a JSON list a line) and prints output token ids; one call of ONNX Runtime runs the search.
//
//   npm install --ignore-scripts
//   echo '[88, 41, 7, 0]' | node generate.mjs ../de-en [--num-beams 5] [--precision int8]

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { InferenceSession, Tensor } from "onnxruntime-node";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    "num-beams": { type: "string", default: "1" },
    precision: { type: "string" },
  },
});
if (positionals.length !== 1) throw new Error("usage: node generate.mjs BUNDLE [--num-beams N] [--precision P] < IDS");

const folder = positionals[0];
const manifest = JSON.parse(readFileSync(join(folder, "bundle.json"), "utf8"));
const rules = manifest.generation;
const numBeams = Number(options["num-beams"]);
if (!(numBeams >= 1 && numBeams <= manifest.max_num_beams)) {
  throw new Error(`--num-beams is ${options["num-beams"]}: give 1 to ${manifest.max_num_beams}`);
}

const sources = readFileSync(0, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const width = Math.max(...sources.map((ids) => ids.length));
const int64 = (numbers, shape) => new Tensor("int64", BigInt64Array.from(numbers, BigInt), shape);
const padded = (row, padding) => [...row, ...Array(width - row.length).fill(padding)];

// The longest output of a source, as the bundle has learned it.
const learned = manifest.output_limit;
const limit = (tokens) => {
  const longest = learned ? Math.floor(learned.ratio * tokens) + learned.constant : Infinity;
  return longest > rules.min_new_tokens ? Math.min(longest, rules.max_new_tokens) : rules.max_new_tokens;
};

const feeds = {
  input_ids: int64(sources.flatMap((ids) => padded(ids, rules.pad_id)), [sources.length, width]),
  attention_mask: int64(sources.flatMap((ids) => padded(ids.map(() => 1), 0)), [sources.length, width]),
  max_new_tokens: int64(sources.map((ids) => limit(ids.length)), [sources.length]),
  min_new_tokens: int64(sources.map(() => rules.min_new_tokens), [sources.length]),
  no_repeat_ngram_size: int64([rules.no_repeat_ngram_size], []),
  prefix_ids: int64([], [sources.length, 0]),
};
if (numBeams > 1) {
  feeds.num_beams = int64([numBeams], []);
  feeds.length_penalty = new Tensor("float32", sources.map(() => rules.length_penalty), [sources.length]);
  feeds.early_stopping = int64([[false, true, "never"].indexOf(rules.early_stopping)], []);
}

const { precisions } = manifest;
const defaultPrecision = ["int8", "mixed", "fp32"].find((name) => name in precisions) ?? Object.keys(precisions)[0];
const { graphs } = precisions[options.precision ?? defaultPrecision];
const session = await InferenceSession.create(join(folder, graphs[numBeams > 1 ? "generate_beams" : "generate"]));
const { output_ids } = await session.run(feeds);

const length = output_ids.dims.at(-1);
const rowsPerSource = output_ids.dims.length === 3 ? output_ids.dims[1] : 1; // beams of a source, best first
for (let source = 0; source < sources.length; source++) {
  const start = source * rowsPerSource * length;
  const ids = Array.from(output_ids.data.slice(start, start + length), Number);
  const end = ids.indexOf(rules.eos_id);
  console.log(JSON.stringify(end < 0 ? ids : ids.slice(0, end + 1)));
}
