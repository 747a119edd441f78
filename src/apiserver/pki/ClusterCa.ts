/**
 * The cluster's certificate authority and what it signs: the server's certificate, the administrator's,
 * nodes' (O=system:nodes, CN=system:node:NAME). Made at first start, kept in files that only the owner
 * reads. Keys are ECDSA P-256.
 */
import { createHash, randomBytes, webcrypto, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
// Before x509, whose parts find one another by it.
import "reflect-metadata";
import * as x509 from "@peculiar/x509";

type CryptoKeyPair = webcrypto.CryptoKeyPair;

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY = 24 * 3600_000;
const CA_DAYS = 3650;
const LEAF_DAYS = 365;
/** Certificates of ours are made anew when less than this is left. */
const RENEW_DAYS = 30;
/** Clocks of nodes may be a little behind. */
const BACKDATE = 5 * 60_000;

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

x509.cryptoProvider.set(webcrypto as never);

/** A certificate with its key, PEM. */
export interface Credential {
  certificate: string;
  key: string;
}

export interface Subject {
  commonName: string;
  organizations?: string[];
}

export class ClusterCa {
  private constructor(
    readonly certificate: string,
    private readonly parsed: x509.X509Certificate,
    private readonly key: webcrypto.CryptoKey,
    private readonly directory: string,
    private readonly now: () => number,
  ) {}

  /**
   * Loads ca.crt and ca.key of `directory`, or makes them.
   *
   * @param time milliseconds since 1970, from which certificates count
   */
  static async open(directory: string, time: () => number = Date.now): Promise<ClusterCa> {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const certificateFile = join(directory, "ca.crt");
    const keyFile = join(directory, "ca.key");
    if (!existsSync(certificateFile)) {
      const keys = await generateKeys();
      const now = time();
      const made = await x509.X509CertificateGenerator.createSelfSigned({
        serialNumber: serial(),
        name: "CN=podwire-ca",
        notBefore: new Date(now - BACKDATE),
        notAfter: new Date(now + CA_DAYS * DAY),
        signingAlgorithm: ALGORITHM,
        keys: keys as never,
        extensions: [
          new x509.BasicConstraintsExtension(true, undefined, true),
          new x509.KeyUsagesExtension(
            x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign | x509.KeyUsageFlags.digitalSignature,
            true,
          ),
          await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as never),
        ],
      });
      // The key first: a certificate without its key would never be repaired.
      writePrivate(keyFile, await pemOfKey(keys.privateKey));
      writePrivate(certificateFile, `${made.toString("pem")}\n`);
    }
    const certificate = readFileSync(certificateFile, "utf8");
    const key = await importKey(readFileSync(keyFile, "utf8"));
    return new ClusterCa(certificate, new x509.X509Certificate(certificate), key, directory, time);
  }

  /** "sha256:…" of the CA's public key, as kubeadm's --discovery-token-ca-cert-hash. */
  get hash(): string {
    return spkiHash(this.certificate);
  }

  /** Signs for a client or (with `names`) for a server. */
  async issue(subject: Subject, names: string[] = []): Promise<Credential> {
    const keys = await generateKeys();
    const certificate = await this.sign(keys.publicKey, subject, names, names.length > 0);
    return { certificate, key: await pemOfKey(keys.privateKey) };
  }

  /**
   * A certificate for somebody who keeps his key, a client's or (with `names`) a server's: `request` is a
   * PKCS#10 in PEM, of which only the key is used. Throws where it is wrong.
   */
  async signRequest(request: string, subject: Subject, names: string[] = []): Promise<string> {
    const parsed = new x509.Pkcs10CertificateRequest(request);
    if (!(await parsed.verify())) throw new Error("the certificate request is not signed by its own key");
    const key = await parsed.publicKey.export();
    return this.sign(key as unknown as webcrypto.CryptoKey, subject, names, names.length > 0);
  }

  /** A credential kept in NAME.crt and NAME.key: the one there if it still serves, else a new one. */
  async kept(name: string, subject: Subject, names: string[] = []): Promise<Credential> {
    const certificateFile = join(this.directory, `${name}.crt`);
    const keyFile = join(this.directory, `${name}.key`);
    if (existsSync(certificateFile) && existsSync(keyFile)) {
      const certificate = readFileSync(certificateFile, "utf8");
      const key = readFileSync(keyFile, "utf8");
      if (this.serves(certificate, names)) return { certificate, key };
    }
    const made = await this.issue(subject, names);
    writePrivate(keyFile, made.key);
    writePrivate(certificateFile, made.certificate);
    return made;
  }

  private serves(certificate: string, names: string[]): boolean {
    const parsed = new X509Certificate(certificate);
    const left = Date.parse(parsed.validTo) - this.now();
    return (
      left > RENEW_DAYS * DAY &&
      parsed.verify(new X509Certificate(this.certificate).publicKey) &&
      names.every((name) => (isIP(name) ? parsed.checkIP(name) : parsed.checkHost(name)) !== undefined)
    );
  }

  private async sign(
    publicKey: webcrypto.CryptoKey,
    { commonName, organizations = [] }: Subject,
    names: string[],
    server: boolean,
  ): Promise<string> {
    const now = this.now();
    const extensions: x509.Extension[] = [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([server ? SERVER_AUTH : CLIENT_AUTH]),
      await x509.AuthorityKeyIdentifierExtension.create(this.parsed),
    ];
    if (names.length > 0)
      extensions.push(
        new x509.SubjectAlternativeNameExtension(
          names.map((value) => ({ type: isIP(value) ? ("ip" as const) : ("dns" as const), value })),
        ),
      );
    const made = await x509.X509CertificateGenerator.create({
      serialNumber: serial(),
      // As attributes, never as text to be parsed: a name may hold commas.
      subject: [...organizations.map((each) => ({ O: [each] })), { CN: [commonName] }],
      issuer: this.parsed.subject,
      notBefore: new Date(now - BACKDATE),
      notAfter: new Date(now + LEAF_DAYS * DAY),
      publicKey: publicKey as never,
      signingKey: this.key as never,
      signingAlgorithm: ALGORITHM,
      extensions,
    });
    return `${made.toString("pem")}\n`;
  }
}

/** A key and a request for a certificate over it, PEM; the subject is for the server to decide. */
export async function certificateRequest({
  commonName,
  organizations = [],
}: Subject): Promise<{ request: string; key: string }> {
  const keys = await generateKeys();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [...organizations.map((each) => ({ O: [each] })), { CN: [commonName] }],
    keys: keys as never,
    signingAlgorithm: ALGORITHM,
  });
  return { request: request.toString("pem"), key: await pemOfKey(keys.privateKey) };
}

/** "sha256:…" of a certificate's public key (SubjectPublicKeyInfo). */
export function spkiHash(certificate: string): string {
  const spki = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" });
  return `sha256:${createHash("sha256").update(spki).digest("hex")}`;
}

/** Writes a file of mode 0600, whole or not at all. */
export function writePrivate(file: string, text: string): void {
  const temporary = `${file}.new`;
  writeFileSync(temporary, text, { mode: 0o600 });
  renameSync(temporary, file);
}

async function generateKeys(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
}

async function pemOfKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY")}\n`;
}

async function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  return webcrypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(pem), ALGORITHM, true, ["sign"]);
}

/** Positive, 127 bits. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString("hex");
}
