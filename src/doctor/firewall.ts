/** Chains of packet filters, as far as they are judged. Parsers of `nft -j list ruleset` and iptables-save; pure. */

/** Which program showed it. */
export type FilterProgram = "nft" | "iptables" | "iptables-legacy";

export interface Chain {
  program: FilterProgram;
  /** "ip", "ip6", "inet", … */
  family: string;
  table: string;
  name: string;
  /** The hook of a base chain: "input", "forward", …; "" for others. */
  hook: string;
  /** What happens to a packet that no rule decides about; "" where the chain is no base chain. */
  policy: string;
  /** Rules in the program's own words: iptables' options, or nft's JSON. */
  rules: string[];
}

const IPTABLES_HOOKS: Record<string, string> = {
  PREROUTING: "prerouting",
  INPUT: "input",
  FORWARD: "forward",
  OUTPUT: "output",
  POSTROUTING: "postrouting",
};

/** Tables that iptables' nft variant keeps: iptables-save shows them better. */
const IPTABLES_TABLES = ["filter", "nat", "mangle", "raw", "security"];

/** Chains in the text of iptables-save. */
export function parseIptables(text: string, program: "iptables" | "iptables-legacy"): Chain[] {
  const chains: Chain[] = [];
  let table = "";
  for (const line of text.split("\n")) {
    const declared = /^:(\S+) (\S+)/.exec(line);
    const rule = /^-A (\S+) ?(.*)$/.exec(line);
    if (line.startsWith("*")) table = line.slice(1).trim();
    else if (declared !== null) {
      const [, name = "", policy = ""] = declared;
      chains.push({
        program,
        family: "ip",
        table,
        name,
        hook: IPTABLES_HOOKS[name] ?? "",
        policy: policy === "-" ? "" : policy.toLowerCase(),
        rules: [],
      });
    } else if (rule !== null) {
      const [, name, words = ""] = rule;
      chains.find((chain) => chain.table === table && chain.name === name)?.rules.push(words);
    }
  }
  return chains;
}

interface NftItem {
  chain?: { family: string; table: string; name: string; hook?: string; policy?: string };
  rule?: { family: string; table: string; chain: string; expr?: unknown };
}

/**
 * Chains in the output of `nft -j list ruleset`. Throws a SyntaxError where it is no JSON.
 *
 * @param iptables whether iptables-save has shown iptables' own tables already
 */
export function parseNft(text: string, iptables: boolean): Chain[] {
  const { nftables } = JSON.parse(text) as { nftables: NftItem[] };
  const chains: Chain[] = [];
  for (const { chain, rule } of nftables) {
    if (chain !== undefined) {
      const { family, table, name, hook = "", policy = "" } = chain;
      chains.push({ program: "nft", family, table, name, hook, policy, rules: [] });
    } else if (rule !== undefined)
      chains
        .find(
          ({ family, table, name }) => family === rule.family && table === rule.table && name === rule.chain,
        )
        ?.rules.push(JSON.stringify(rule.expr ?? []));
  }
  return chains.filter(
    ({ family, table }) => !(iptables && family === "ip" && IPTABLES_TABLES.includes(table)),
  );
}

/** Whether packets of IPv4 go through the chain. */
export function seesIpv4({ family }: Chain): boolean {
  return family === "ip" || family === "inet";
}
