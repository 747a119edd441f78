/**
 * Tokens with which nodes join: "ID.SECRET" as Kubernetes' bootstrap tokens. Only a hash of the secret is
 * kept, in a file that is read anew for every check, so that `podwire token` works beside a running server.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { writePrivate } from "../pki/ClusterCa.js";

const record = z.object({
  id: z.string(),
  hash: z.string(),
  expires: z.string(),
  description: z.string(),
});

/** What is known of a token; never the secret. */
export type TokenRecord = z.infer<typeof record>;

const TOKEN = /^([a-z0-9]{6})\.([a-z0-9]{16})$/;
const ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789";

export class JoinTokens {
  private readonly file: string;

  constructor(
    private readonly directory: string,
    private readonly now: () => number = Date.now,
  ) {
    this.file = join(directory, "tokens.json");
  }

  /** Makes a token that is good for `seconds`; this is the only time its text is known. */
  create(seconds: number, description = ""): string {
    const id = randomText(6);
    const secret = randomText(16);
    const expires = new Date(this.now() + seconds * 1000).toISOString();
    this.write([...this.list(), { id, hash: hashOf(id, secret), expires, description }]);
    return `${id}.${secret}`;
  }

  /** Tokens that are still good. */
  list(): TokenRecord[] {
    if (!existsSync(this.file)) return [];
    const all = z.array(record).parse(JSON.parse(readFileSync(this.file, "utf8")));
    return all.filter(({ expires }) => Date.parse(expires) > this.now());
  }

  /** Takes a token by its id or whole text; false where there is none. */
  delete(token: string): boolean {
    const id = token.split(".")[0];
    const all = this.list();
    const left = all.filter((each) => each.id !== id);
    this.write(left);
    return left.length < all.length;
  }

  /** The id of a good token; undefined for any other text. */
  verify(token: string): string | undefined {
    const match = TOKEN.exec(token);
    if (match === null) return undefined;
    const [, id, secret] = match;
    const known = this.list().find((each) => each.id === id);
    if (known === undefined) return undefined;
    const equal = timingSafeEqual(Buffer.from(known.hash, "hex"), Buffer.from(hashOf(id!, secret!), "hex"));
    return equal ? id : undefined;
  }

  private write(tokens: TokenRecord[]): void {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    writePrivate(this.file, `${JSON.stringify(tokens, null, 2)}\n`);
  }
}

/** 82 bits of secret need no slow hash. */
function hashOf(id: string, secret: string): string {
  return createHash("sha256").update(`${id}.${secret}`).digest("hex");
}

function randomText(length: number): string {
  let text = "";
  while (text.length < length)
    // 252 is the largest multiple of 36 in a byte: every character is equally likely.
    for (const byte of randomBytes(length))
      if (byte < 252 && text.length < length) text += ALPHABET[byte % ALPHABET.length];
  return text;
}
