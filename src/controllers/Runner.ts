/**
 * Carries out actions, in order, and shows the answers to the views. A failure ends the rest and
 * rejects: the work queue brings the key back, and the core decides anew. What is gone already is no
 * failure.
 */
import type { Clock } from "../kube/Clock.js";
import type { EventRecorder } from "../kube/EventRecorder.js";
import type { KubeApi, KubeObject, ResourceRef } from "../kube/KubeApi.js";
import { isConflict, isNotFound, KubeError } from "../kube/KubeError.js";
import { RESOURCES } from "../kube/resources.js";
import type { Action, EventText } from "./actions.js";
import { randomSuffix } from "./meta.js";
import type { View } from "./View.js";

export interface RunnerOptions {
  kube: KubeApi;
  clock: Clock;
  events: Pick<EventRecorder, "record">;
  /** The view of a kind, where there is one. */
  view(resource: ResourceRef): View<KubeObject> | undefined;
  random: () => number;
}

export class Runner {
  constructor(private readonly options: RunnerOptions) {}

  async run(actions: readonly Action[]): Promise<void> {
    for (const action of actions) {
      if (action.verb === "event") {
        this.#record(action.event);
        continue;
      }
      let name: string;
      try {
        name = await this.#one(action);
      } catch (error) {
        if (isNotFound(error) && action.verb === "delete") continue;
        // Somebody replaced it: its events will bring the key back, if it still matters.
        if (isConflict(error) && action.verb === "delete") continue;
        // Whoever empties the namespace wakes us no more.
        if (action.verb === "create" && isNamespaceGoing(error)) return;
        const failed = "failed" in action ? action.failed : undefined;
        if (failed && error instanceof KubeError && error.code >= 400 && error.reason !== "Conflict")
          this.#record(failed, { error: error.message });
        throw error;
      }
      if (action.done) this.#record(action.done, { name });
    }
  }

  async #one(action: Exclude<Action, { verb: "event" }>): Promise<string> {
    const { kube, clock, random } = this.options;
    const { resource, object } = action;
    const view = this.options.view(resource);
    const { name, namespace, generateName, uid } = object.metadata;
    if (action.verb === "delete") {
      await kube.delete(resource, name!, namespace, {
        ...(uid !== undefined && { uid }),
        ...(action.gracePeriodSeconds !== undefined && { gracePeriodSeconds: action.gracePeriodSeconds }),
      });
      view?.deleting(object, clock.date().getTime());
      return name!;
    }
    let answer: KubeObject;
    if (action.verb === "create") {
      const named = name ?? `${generateName}${randomSuffix(random)}`;
      answer = await kube.create(resource, { ...object, metadata: { ...object.metadata, name: named } });
    } else if (action.verb === "update") answer = await kube.update(resource, object, action.subresource);
    else answer = await kube.patch(resource, name!, namespace, action.kind, action.patch, action.subresource);
    view?.written(answer);
    return answer.metadata.name!;
  }

  #record({ about, type, reason, message }: EventText, words: Record<string, string> = {}): void {
    const resource = RESOURCES.find(({ kind }) => kind === about.kind);
    if (!resource) return;
    const text = message.replace(/\{(name|error)\}/g, (whole, key: string) => words[key] ?? whole);
    this.options.events.record(resource, about, type, reason, text);
  }
}

function isNamespaceGoing(error: unknown): boolean {
  if (!(error instanceof KubeError) || error.code !== 403) return false;
  return error.details?.causes?.some(({ reason }) => reason === "NamespaceTerminating") === true;
}
