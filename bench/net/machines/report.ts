/** Tables of a run between machines, and what they are worth. Pure. */

import { failureNotes, limitNotes } from "../../testbed/notes.js";
import type { Records } from "../../testbed/records.js";
import { formatFigures, formatRatios } from "../report.js";
import type { Variant } from "../variants.js";
import type { Surroundings } from "./Machine.js";
import type { MachinesOptions } from "./options.js";

/** All tables. `machines` are both ends by name. */
export function formatMachines(
  { nodes, measures, repetitions, seconds }: MachinesOptions,
  machines: Readonly<Record<string, Surroundings>>,
  records: Records,
  variants: readonly Variant[],
): string {
  const described = Object.entries(machines).map(
    ([name, { kernel, cores, virtualization, podwire, iperf3 }]) =>
      `${name}: ${virtualization}, ${cores} cores, kernel ${kernel}, podwire ${podwire}, iperf3 ${iperf3}`,
  );
  return [
    `## From a pod on ${nodes[0]} to one on ${nodes[1]}, ${repetitions} repetitions of ${seconds} s`,
    described.join("\n"),
    worthOf(Object.values(machines)),
    "Ratio to kernel vxlan: median of the repetitions' ratios [spread]",
    formatRatios(records, measures, variants),
    "Figures: median [spread]",
    formatFigures(records, measures, variants),
    ...limitNotes(records, measures, variants),
    ...failureNotes(records, {}),
  ].join("\n\n");
}

/** What kind of machines the figures are of, in a sentence that nobody may leave out. */
function worthOf(machines: readonly Surroundings[]): string {
  const kinds = machines.map(({ virtualization }) => virtualization);
  if (kinds.includes("qemu"))
    return "THESE FIGURES MEAN NOTHING: the machines are emulated (qemu without KVM).";
  if (kinds.includes("systemd-nspawn"))
    return "THESE FIGURES MEAN LITTLE: the machines are containers, which share one kernel and its cores.";
  if (kinds.every((kind) => kind === "none")) return "The machines are real ones.";
  return "The machines are virtual: if one host has them both, they share its cores, and its drivers are in the figures.";
}
