/** Texts of table cells: ages, labels, selectors, containers. Pure; the clock is an argument. */
import type { KubeObject } from "../../kube/KubeApi.js";
import { items, type Loose } from "./loose.js";

/** A duration in milliseconds as kubectl shows it: two figures of precision while they matter. */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.trunc(milliseconds / 1000);
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return withRest(minutes, "m", seconds % 60, "s");
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return withRest(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 8) return withRest(days, "d", hours % 24, "h");
  if (days < 730) return `${days}d`;
  const years = Math.floor(days / 365);
  return days < 2920 ? withRest(years, "y", days % 365, "d") : `${years}y`;
}

function withRest(whole: number, unit: string, rest: number, restUnit: string): string {
  return rest === 0 ? `${whole}${unit}` : `${whole}${unit}${rest}${restUnit}`;
}

/** Time since a timestamp, "<unknown>" where there is none. */
export function since(timestamp: string | null | undefined, now: Date): string {
  const time = timestamp ? Date.parse(timestamp) : Number.NaN;
  return Number.isNaN(time) ? "<unknown>" : humanDuration(now.getTime() - time);
}

/** Time since the object was created. */
export function age(object: KubeObject, now: Date): string {
  return since(object.metadata.creationTimestamp, now);
}

/** "a=1,b=2", sorted; "<none>" where there are none. */
export function formatLabels(labels: Record<string, string> | null | undefined): string {
  const keys = Object.keys(labels ?? {}).sort();
  return keys.length === 0 ? "<none>" : keys.map((key) => `${key}=${labels![key]}`).join(",");
}

/** A LabelSelector in the syntax of `kubectl get -l`; "<none>" where it is empty or absent. */
export function formatLabelSelector(selector: Loose): string {
  const parts: { key: string; text: string }[] = [];
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) {
    parts.push({ key, text: `${key}=${value}` });
  }
  for (const { key, operator, values } of items(selector?.matchExpressions)) {
    const list = `(${[...items(values)].sort().join(",")})`;
    if (operator === "In") parts.push({ key, text: `${key} in ${list}` });
    else if (operator === "NotIn") parts.push({ key, text: `${key} notin ${list}` });
    else if (operator === "Exists") parts.push({ key, text: key });
    else if (operator === "DoesNotExist") parts.push({ key, text: `!${key}` });
    else return "<error>";
  }
  if (parts.length === 0) return "<none>";
  return parts
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map((part) => part.text)
    .join(",");
}

/** Names and images of the containers of a pod template. */
export function containerCells(podSpec: Loose): [names: string, images: string] {
  const containers = items(podSpec?.containers);
  return [containers.map((c) => c.name).join(","), containers.map((c) => c.image).join(",")];
}

/** "a,b,c + 2 more..." of a list of which three are shown. */
export function firstThree(list: string[], empty: string): string {
  if (list.length === 0) return empty;
  return list.length <= 3 ? list.join(",") : `${list.slice(0, 3).join(",")} + ${list.length - 3} more...`;
}
