/** How long a flow lives without packets: by its state, and for TCP by whether data is unacknowledged. */
import {
  FLOW_PRIVATE,
  FLOW_STATE,
  TCP_ACKED,
  TCP_BITS,
  TCP_END,
  TCP_ESTABLISHED,
  TCP_KNOWN,
  TCP_WORDS,
  TIMEOUT_OF,
  UNACKNOWLEDGED_MS,
} from "./flowLayout.js";

/** Milliseconds from the last packet on after which the flow whose record starts at `base` ends. */
export function flowTimeout(words: Int32Array, base: number): number {
  const state = words[base + FLOW_STATE];
  if (state === TCP_ESTABLISHED) {
    const original = base + FLOW_PRIVATE;
    const reply = original + TCP_WORDS;
    // What only one side has shown says nothing about what the other acknowledged.
    if ((words[original + TCP_BITS] & words[reply + TCP_BITS] & TCP_KNOWN) !== 0) {
      if (((words[original + TCP_END] - words[reply + TCP_ACKED]) | 0) > 0) return UNACKNOWLEDGED_MS;
      if (((words[reply + TCP_END] - words[original + TCP_ACKED]) | 0) > 0) return UNACKNOWLEDGED_MS;
    }
  }
  return TIMEOUT_OF[state];
}
