/**
 * The page: reads the cluster when the server says that it has changed, listens to its traffic, and lets one
 * choose what the picture is about. What is chosen stands in the address, so that it can be kept.
 */
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ClusterView, TraceView, Traffic } from "../protocol.js";
import { Picture } from "./Picture.js";
import { Panels } from "./panels.js";
import { TraceForm } from "./TraceForm.js";

const STEPS = [
  ["", "Everything"],
  ["overlay", "Pods and overlay"],
  ["clusterip", "ClusterIP"],
  ["nodeport", "NodePort"],
  ["loadbalancer", "LoadBalancer"],
] as const;

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

const THEME = "podwire-theme";

function storedTheme(): Theme {
  const stored = localStorage.getItem(THEME);
  return THEMES.find((theme) => theme === stored) ?? "system";
}

function Page() {
  const [step, setStep] = useState(location.hash.slice(1));
  const [view, setView] = useState<ClusterView | null>(null);
  const [traffic, setTraffic] = useState<Traffic | null>(null);
  const [version, setVersion] = useState<number | null>(null);
  const [trace, setTrace] = useState<TraceView | null>(null);
  const [problem, setProblem] = useState("");
  const [theme, setTheme] = useState(storedTheme());

  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(THEME, theme);
  }, [theme]);

  useEffect(() => {
    const changed = () => setStep(location.hash.slice(1));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);

  useEffect(() => {
    const events = new EventSource("/api/events");
    events.addEventListener("changed", ({ data }) => setVersion(JSON.parse(data) as number));
    events.addEventListener("traffic", ({ data }) => setTraffic(JSON.parse(data) as Traffic));
    // The browser connects again by itself.
    events.onerror = () => setProblem("podwire ui does not answer");
    events.onopen = () => setProblem("");
    return () => events.close();
  }, []);

  useEffect(() => {
    if (version === null) return;
    // An answer that comes late must not undo the one after it.
    const abort = new AbortController();
    const read = async () => {
      try {
        const answer = await fetch(`/api/cluster${step === "" ? "" : `?step=${encodeURIComponent(step)}`}`, {
          signal: abort.signal,
        });
        const said = (await answer.json()) as ClusterView & { error?: string };
        if (!answer.ok) throw new Error(said.error ?? answer.statusText);
        setView(said);
        setProblem("");
      } catch (error) {
        if (!abort.signal.aborted) setProblem((error as Error).message);
      }
    };
    void read();
    return () => abort.abort();
  }, [version, step]);

  return (
    <>
      <header>
        <h1>podwire</h1>
        <nav>
          {STEPS.map(([name, title]) => (
            <a key={name} href={`#${name}`} aria-current={name === step ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <span class={problem === "" && view?.connected !== false ? "muted" : "bad"} role="status">
          {problem !== ""
            ? problem
            : view === null
              ? "reading the cluster…"
              : view.connected
                ? "live"
                : "the API does not answer; this is what was known last"}
        </span>
        <select
          aria-label="colours"
          value={theme}
          onChange={({ currentTarget }) => setTheme(currentTarget.value as Theme)}
        >
          {THEMES.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      </header>
      {view && (
        <main>
          {view.faults.map(({ at, about, reason }) => (
            <p key={`${at} ${about}`} class="bad">
              {`${at}'s table, ${about}: ${reason}`}
            </p>
          ))}
          <Picture scene={view.picture} traffic={traffic} trace={trace} />
          <TraceForm view={view} trace={trace} onTrace={setTrace} />
          <Panels view={view} traffic={traffic} />
        </main>
      )}
    </>
  );
}

render(<Page />, document.body);
