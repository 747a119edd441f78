/**
 * Strategic merge patch (k8s.io/apimachinery/pkg/util/strategicpatch), with the directives that kubectl
 * sends: $patch, $retainKeys, $deleteFromPrimitiveList/FIELD, $setElementOrder/FIELD. Pure: neither argument
 * is changed. `strategyOf` tells how the field at a path (names from the kind's root) is merged.
 */

import { badRequest } from "../errors.js";
import { sameJson } from "../resources/loose.js";

type Json = unknown;
type JsonMap = Record<string, Json>;
type Strategy = { strategy: "merge" | "replace" | "retainKeys"; mergeKey?: string } | undefined;
export type StrategyOf = (path: string[]) => Strategy;

const DELETE_PRIMITIVES = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER = "$setElementOrder/";

const isMap = (value: Json): value is JsonMap =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function strategicMerge(original: JsonMap, patch: JsonMap, strategyOf: StrategyOf): JsonMap {
  return mergeMap(original, patch, [], strategyOf);
}

function mergeMap(original: JsonMap, patch: JsonMap, path: string[], strategyOf: StrategyOf): JsonMap {
  const directive = patch.$patch;
  if (directive === "replace") return withoutDirectives(patch) as JsonMap;
  if (directive === "delete") return {};
  if (directive !== undefined && directive !== "merge")
    throw badRequest(`Unknown patch type ${JSON.stringify(directive)} found in map`);
  let merged: JsonMap = { ...original };
  if (patch.$retainKeys !== undefined) {
    if (!Array.isArray(patch.$retainKeys)) throw badRequest("invalid patch format of retainKeys list");
    const kept = patch.$retainKeys;
    merged = Object.fromEntries(Object.entries(merged).filter(([key]) => kept.includes(key)));
  }
  for (const [key, values] of Object.entries(patch)) {
    if (!key.startsWith(DELETE_PRIMITIVES)) continue;
    const field = key.slice(DELETE_PRIMITIVES.length);
    if (Array.isArray(merged[field]))
      merged[field] = merged[field].filter(
        (item) => !(values as Json[]).some((each) => sameJson(each, item)),
      );
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith("$")) continue;
    if (value === null) delete merged[key];
    else merged[key] = mergeField(merged[key], value, [...path, key], strategyOf);
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(ELEMENT_ORDER)) continue;
    const field = key.slice(ELEMENT_ORDER.length);
    if (!Array.isArray(order)) throw badRequest("invalid patch format of setElementOrder list");
    const list = merged[field];
    if (!Array.isArray(list)) continue;
    const mergeKey = strategyOf([...path, field])?.mergeKey;
    merged[field] = inOrder(list, order, (original[field] as Json[] | undefined) ?? [], mergeKey);
  }
  return merged;
}

function mergeField(original: Json, patch: Json, path: string[], strategyOf: StrategyOf): Json {
  const strategy = strategyOf(path);
  if (isMap(patch)) {
    if (strategy?.strategy === "replace") return withoutDirectives(patch);
    return mergeMap(isMap(original) ? original : {}, patch, path, strategyOf);
  }
  if (!Array.isArray(patch)) return patch;
  if (strategy?.strategy !== "merge") return withoutDirectives(patch);
  return mergeList(Array.isArray(original) ? original : [], patch, strategy.mergeKey, path, strategyOf);
}

function mergeList(
  original: Json[],
  patch: Json[],
  mergeKey: string | undefined,
  path: string[],
  strategyOf: StrategyOf,
): Json[] {
  if (!patch.some(isMap)) {
    const added = patch.filter((item, i) => patch.indexOf(item) === i && !original.includes(item));
    return inOrder([...original, ...added], patch, original, undefined);
  }
  if (patch.some((item) => isMap(item) && item.$patch === "replace"))
    return patch.filter((item) => !(isMap(item) && item.$patch === "replace")).map(withoutDirectives);
  if (mergeKey === undefined) return [...original, ...patch.map(withoutDirectives)];
  let merged = [...original];
  for (const item of patch) {
    if (!isMap(item)) throw badRequest("expected all elements of the list to be maps");
    const key = item[mergeKey];
    if (key === undefined)
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
    const same = (each: Json) => isMap(each) && sameJson(each[mergeKey], key);
    if (item.$patch === "delete") {
      merged = merged.filter((each) => !same(each));
      continue;
    }
    const at = merged.findIndex(same);
    if (at < 0) merged.push(mergeMap({}, item, path, strategyOf));
    else merged[at] = mergeMap(merged[at] as JsonMap, item, path, strategyOf);
  }
  const named = patch.filter((item) => (item as JsonMap).$patch === undefined);
  return inOrder(merged, named, original, mergeKey);
}

/** Puts what `order` names into its order; what only the server has keeps its place among them. */
function inOrder(list: Json[], order: Json[], server: Json[], mergeKey: string | undefined): Json[] {
  const keyOf = (item: Json): Json => (mergeKey !== undefined && isMap(item) ? item[mergeKey] : item);
  const indexIn = (items: Json[], item: Json) =>
    items.findIndex((each) => sameJson(keyOf(each), keyOf(item)));
  const named = list.filter((item) => indexIn(order, item) >= 0);
  named.sort((a, b) => indexIn(order, a) - indexIn(order, b));
  const others = list.filter((item) => indexIn(order, item) < 0);
  const result: Json[] = [];
  let i = 0;
  let j = 0;
  while (i < others.length && j < named.length) {
    const left = indexIn(server, others[i]);
    const right = indexIn(server, named[j]);
    result.push(left >= 0 && right >= 0 && left < right ? others[i++] : named[j++]);
  }
  return [...result, ...others.slice(i), ...named.slice(j)];
}

/** A patch's value where there is nothing to merge it with: no directives, no nulls. */
function withoutDirectives(value: Json): Json {
  if (Array.isArray(value))
    return value.filter((item) => !(isMap(item) && item.$patch === "delete")).map(withoutDirectives);
  if (!isMap(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, each]) => !key.startsWith("$") && each !== null)
      .map(([key, each]) => [key, withoutDirectives(each)]),
  );
}
