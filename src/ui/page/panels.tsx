/** Tables beside the picture: what goes by, what is dropped, how full blocks are, who announces what. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { ClusterView, FlowRow, Traffic } from "../protocol.js";
import { bitRate, clockTime, count, packetRate } from "./format.js";

interface Props {
  view: ClusterView;
  traffic: Traffic | null;
}

function Panel({ title, wide, children }: { title: string; wide?: boolean; children: ComponentChildren }) {
  return (
    <section class={wide ? "panel wide" : "panel"}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

function Rows({ head, rows, none }: { head: string[]; rows: ComponentChildren[][]; none: string }) {
  if (rows.length === 0) return <p class="muted">{none}</p>;
  return (
    <table>
      <thead>
        <tr>
          {head.map((each) => (
            <th key={each}>{each}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((cells, n) => (
          <tr key={n}>
            {cells.map((cell, k) => (
              <td key={k}>{cell}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A browser is slow with more rows; of traffic and drops the busiest stay. */
const MOST = 500;

/** The busiest first. */
function busiest<T extends { packetsPerSecond: number }>(all: readonly T[]): T[] {
  return [...all].sort((a, b) => b.packetsPerSecond - a.packetsPerSecond).slice(0, MOST);
}

export function Panels({ view, traffic }: Props) {
  const nodes = new Map(traffic?.nodes.map((each) => [each.node, each]));
  return (
    <div class="panels">
      <Panel title="Nodes">
        <Rows
          head={["node", "", "in", "forwarded", "dropped"]}
          none="no nodes"
          rows={view.nodes.slice(0, MOST).map(({ name, address, ready, live }) => {
            const now = nodes.get(name);
            const state = !ready ? "not ready" : live ? "" : "agent not asked";
            return [
              <span title={address}>{name}</span>,
              <span class={ready ? "muted" : "bad"}>{state}</span>,
              ...(now === undefined
                ? ["", "", ""]
                : [packetRate(now.received), packetRate(now.forwarded), packetRate(now.dropped)]),
            ];
          })}
        />
      </Panel>
      <Panel title="Links">
        <Rows
          head={["from", "to", "", "packets"]}
          none="no traffic counted yet"
          rows={busiest(traffic?.links ?? []).map(({ from, to, bitsPerSecond, packetsPerSecond }) => [
            from,
            to,
            bitRate(bitsPerSecond),
            packetRate(packetsPerSecond),
          ])}
        />
      </Panel>
      <Panel title="Services">
        <Rows
          head={["service", "", "packets"]}
          none="no traffic counted yet"
          rows={busiest(traffic?.services ?? []).map(({ key, bitsPerSecond, packetsPerSecond }) => [
            <ServiceName view={view} name={key} />,
            bitRate(bitsPerSecond),
            packetRate(packetsPerSecond),
          ])}
        />
      </Panel>
      <Panel title="Drops">
        <Rows
          head={["node", "reason", "total", "now"]}
          none="nothing was dropped"
          rows={[...(traffic?.drops ?? [])]
            .sort((a, b) => b.perSecond - a.perSecond || b.total - a.total)
            .slice(0, MOST)
            .map(({ node, reason, total, perSecond }) => [node, reason, count(total), packetRate(perSecond)])}
        />
      </Panel>
      <Panel title="Blocks of pod addresses">
        <Rows
          head={["block", "node", "in use", ""]}
          none="no blocks"
          rows={view.blocks
            .slice(0, MOST)
            .map(({ cidr, node, used, size }) => [
              cidr,
              node,
              `${used} of ${size}`,
              <meter min={0} max={size} value={used} high={size * 0.9} />,
            ])}
        />
      </Panel>
      <Panel title="Addresses on the LAN">
        <Rows
          head={["address", "answered by", "since"]}
          none="none announced"
          rows={(traffic?.addresses ?? []).map(({ address, owner, since }) => [
            address,
            owner === "" ? <span class="bad">nobody</span> : owner,
            clockTime(since),
          ])}
        />
      </Panel>
      <Panel title="Liveness (BFD)">
        <Rows
          head={["node", "watches", "state", "since"]}
          none="no sessions"
          rows={(traffic?.bfd ?? [])
            .slice(0, MOST)
            .map(({ node, neighbor, state, upSince }) => [
              node,
              neighbor,
              <span class={state === "Up" ? "good" : "bad"}>{state}</span>,
              clockTime(upSince),
            ])}
        />
      </Panel>
      <Flows />
    </div>
  );
}

function ServiceName({ view, name }: { view: ClusterView; name: string }) {
  const paint = view.services.find(({ key }) => key === name)?.paint;
  return (
    <span>
      {paint && (
        <svg class="dot" viewBox="0 0 10 10" aria-hidden="true">
          <rect width="10" height="10" rx="2" class={`f-${paint}`} />
        </svg>
      )}
      {name}
    </span>
  );
}

function Flows() {
  const [flows, setFlows] = useState<FlowRow[] | string | null>(null);
  const read = async () => {
    try {
      const answer = await fetch("/api/flows");
      setFlows(answer.ok ? ((await answer.json()) as FlowRow[]) : "the agents do not tell their flows");
    } catch (error) {
      setFlows((error as Error).message);
    }
  };
  return (
    <Panel title="Flows" wide>
      <button type="button" onClick={() => void read()}>
        {flows === null ? "Show" : "Read again"}
      </button>
      {typeof flows === "string" && <p class="bad">{flows}</p>}
      {Array.isArray(flows) && (
        <Rows
          head={["node", "", "from", "to", "translated to", "state"]}
          none="no flows"
          rows={flows.map((each) => [
            each.node,
            each.protocol,
            each.source,
            each.destination,
            each.translated,
            each.state,
          ])}
        />
      )}
    </Panel>
  );
}
