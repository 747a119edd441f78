/** Asks for a packet's way, and tells each decision about it. */
import { useState } from "preact/hooks";
import type { ClusterView, Path, TraceView } from "../protocol.js";

interface Props {
  view: ClusterView;
  trace: TraceView | null;
  onTrace: (trace: TraceView | null) => void;
}

export function TraceForm({ view, trace, onTrace }: Props) {
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [protocol, setProtocol] = useState("");
  const [problem, setProblem] = useState("");
  const [asking, setAsking] = useState(false);
  const ask = async (event: Event) => {
    event.preventDefault();
    setAsking(true);
    setProblem("");
    try {
      const answer = await fetch(`/api/trace?${new URLSearchParams({ from, to, protocol })}`);
      const said = (await answer.json()) as TraceView & { error?: string };
      if (!answer.ok) throw new Error(said.error ?? answer.statusText);
      onTrace(said);
    } catch (error) {
      onTrace(null);
      setProblem((error as Error).message);
    } finally {
      setAsking(false);
    }
  };
  // A name without namespace is one of "default".
  const pods = view.pods.map(({ key }) => (short(key) === key ? key : `pod/${short(key)}`));
  const nodes = view.nodes.map(({ name }) => `node/${name}`);
  const services = view.services.map(({ key }) => `svc/${short(key)}`);
  return (
    <section class="panel trace">
      <h2>Trace a packet</h2>
      <form onSubmit={(event) => void ask(event)}>
        <Place name="from" list="places" value={from} placeholder="pc, pod/…, node/…" onInput={setFrom} />
        <Place name="to" list="targets" value={to} placeholder="svc/…, pod/…, ADDRESS:PORT" onInput={setTo} />
        <select
          aria-label="protocol"
          value={protocol}
          onChange={({ currentTarget }) => setProtocol(currentTarget.value)}
        >
          <option value="">as the target</option>
          <option value="tcp">TCP</option>
          <option value="udp">UDP</option>
          <option value="icmp">ping</option>
        </select>
        <button type="submit" disabled={asking}>
          Trace
        </button>
        {trace && (
          <button type="button" onClick={() => onTrace(null)}>
            Clear
          </button>
        )}
      </form>
      <Names id="places" names={["pc", ...pods, ...nodes]} />
      <Names id="targets" names={[...services, ...pods]} />
      {problem !== "" && <p class="bad">{problem}</p>}
      {trace && (
        <div class="ways">
          <p>
            <strong class={trace.verdict === "answered" || trace.verdict === "delivered" ? "good" : "bad"}>
              {trace.verdict}
            </strong>
          </p>
          <Way title="request" path={trace.request} />
          {trace.reply && <Way title="reply" path={trace.reply} />}
          {trace.notes.map((note) => (
            <p key={note} class="muted">
              {note}
            </p>
          ))}
        </div>
      )}
    </section>
  );
}

function short(key: string): string {
  return key.startsWith("default/") ? key.slice("default/".length) : key;
}

interface PlaceProps {
  name: string;
  /** Id of the Names that it suggests. */
  list: string;
  value: string;
  placeholder: string;
  onInput: (value: string) => void;
}

function Place({ name, list, value, placeholder, onInput }: PlaceProps) {
  return (
    <label>
      {name}
      <input
        name={name}
        list={list}
        required
        value={value}
        placeholder={placeholder}
        onInput={({ currentTarget }) => onInput(currentTarget.value)}
      />
    </label>
  );
}

function Names({ id, names }: { id: string; names: string[] }) {
  return (
    <datalist id={id}>
      {names.map((name) => (
        <option key={name} value={name} />
      ))}
    </datalist>
  );
}

function Way({ title, path }: { title: string; path: Path }) {
  return (
    <div class={`way ${title}`}>
      <h3>{title}</h3>
      <ol>
        {path.steps.map(({ lane, stage, what, because }, n) => (
          <li key={n}>
            <span class="muted">
              {lane} · {stage}
            </span>{" "}
            {what}
            {because !== "" && <span class="muted"> ({because})</span>}
          </li>
        ))}
        <li>
          <strong>{path.end}</strong>
        </li>
      </ol>
    </div>
  );
}
