import { expect, test } from "vitest";
import { historyOf, REVISION_LABEL } from "../../../src/controllers/revisions.js";
import type { ControllerRevision } from "../../../src/kube/types.js";
import { daemonSet, effects, pod, revisionOf, template } from "./objects.js";

const ds = daemonSet();
/** Revisions 1 … n of images a1 … an. */
const past = (count: number): ControllerRevision[] =>
  Array.from({ length: count }, (_, i) =>
    revisionOf(daemonSet({ template: template(`a${i + 1}`) }), { revision: i + 1 }),
  );

test("the first revision holds the template as a patch, keys in order", () => {
  const { actions, hash } = historyOf(ds, [], []);
  expect(actions).toHaveLength(1);
  const [create] = actions as unknown as { object: ControllerRevision }[];
  const { object } = create!;
  expect(object).toMatchObject({
    metadata: { name: `nginx-ds-${hash}`, labels: { name: "nginx", [REVISION_LABEL]: hash } },
    revision: 1,
  });
  expect(JSON.stringify(object.data)).toMatch(
    /^\{"spec":\{"template":\{"\$patch":"replace","metadata":\{"creationTimestamp":null,"labels":/,
  );
});

test("the present one is left alone, a former one moves to the top under its old hash", () => {
  expect(historyOf(ds, [revisionOf(ds)], []).actions).toEqual([]);
  const [first, second] = past(2);
  const back = historyOf(daemonSet({ template: template("a1") }), [first!, second!], []);
  expect(back.hash).toBe(first!.metadata.labels![REVISION_LABEL]);
  expect(back.actions).toMatchObject([{ verb: "patch", object: first, patch: { revision: 3 } }]);
});

test("the oldest go beyond the limit, not those that pods run by", () => {
  const set = daemonSet({ template: template("a4"), revisionHistoryLimit: 1 });
  const all = past(4);
  const old = pod("p", {
    owner: set,
    labels: { [REVISION_LABEL]: all[0]!.metadata.labels![REVISION_LABEL]! },
  });
  const { actions } = historyOf(set, all, [old]);
  expect(actions.map((action) => "object" in action && action.object)).toEqual([all[1]]);
  expect(effects(actions).length).toBe(1);
});

test("a name that another template has counts a collision, and makes nothing", () => {
  const stranger = revisionOf(ds, { data: { spec: {} } });
  const clash = historyOf(ds, [stranger], []);
  expect([clash.collided, clash.actions]).toEqual([true, []]);
  const next = historyOf({ ...ds, status: { collisionCount: 1 } as never }, [stranger], []);
  expect(next.collided).toBe(false);
  expect(next.hash).not.toBe(clash.hash);
});
