// A second reader of archives, written from docs/format.md alone.
//
//     node reader.mjs restore ARCHIVE DESTINATION     every snapshot, each into a folder named by its id
//     node reader.mjs choose ARCHIVE REPOSITORY       the id of the seal that is meant
//     node reader.mjs vectors FILE...                 the page's vectors
//
// It shares no code with the software, so that what both read alike is what the page says. It ends with 1
// and a sentence if anything is not as the page says.

import { createHash, createPublicKey, verify } from "node:crypto";
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { blake3 } from "@noble/hashes/blake3";
import { decompress } from "fzstd";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const digest = (bytes) => hex(blake3(bytes));
const need = (good, problem) => {
  if (!good) throw new Error(problem);
};

// ---- 3 and 4: objects and codecs

const WORD = [1, 2, 4, 2, 4, 2];
const FRAMES = [1, 2, 4, 3, 5, 3];
const JOINT = new Set([3, 4, 5]);

/** The plain length that a Zstandard frame names in its own header (RFC 8878, 3.1.1.1). */
function contentSize(frame) {
  need(frame.length > 8 && frame.readUInt32LE(0) === 0xfd2fb528, "no Zstandard frame");
  const single = (frame[4] >> 5) & 1;
  const at = 5 + (1 - single) + [0, 1, 2, 4][frame[4] & 3];
  switch (frame[4] >> 6) {
    case 0:
      return single ? frame[at] : undefined;
    case 1:
      return frame.readUInt16LE(at) + 256;
    case 2:
      return frame.readUInt32LE(at);
    default:
      return Number(frame.readBigUInt64LE(at));
  }
}

/** What a frame holds; `most` bounds it before anything is unpacked. */
function inflate(frame, most) {
  const size = contentSize(frame);
  need(size !== undefined && size <= most, "a frame of an impossible length");
  const data = Buffer.from(decompress(frame));
  need(data.length === size, "a frame has another length than it says");
  return data;
}

function unrotate(first, second) {
  const r = (first << 8) | second;
  return ((r >> 1) | ((r & 1) << 15)) & 0xffff;
}

/** The last quarter of B is above the other three, two bits in each. */
function unpack(packed) {
  const m = packed.length / 3;
  const b = new Uint8Array(4 * m);
  for (let i = 0; i < m; i++) {
    const [p0, p1, p2] = [packed[i], packed[m + i], packed[2 * m + i]];
    b[i] = p0 & 63;
    b[m + i] = p1 & 63;
    b[2 * m + i] = p2 & 63;
    b[3 * m + i] = (p0 >> 6) | ((p1 >> 6) << 2) | ((p2 >> 6) << 4);
  }
  return b;
}

function unjoin(a, b, exponents, emax, count) {
  const words = new Uint16Array(count);
  let used = 0;
  for (let i = 0; i < count; i++) {
    const c = a[i] >> 2;
    let exponent = emax - c;
    if (c === 63) {
      need(used < exponents.length, "fewer exponents than clipped words");
      exponent = exponents[used++];
    }
    need(exponent >= 0, "c is greater than emax");
    words[i] = (((b[i] >> 5) & 1) << 15) | (exponent << 7) | ((a[i] & 3) << 5) | (b[i] & 31);
  }
  need(used === exponents.length, "more exponents than clipped words");
  return words;
}

/** An object's plain bytes from its frames. `how` has codec, size, frames, emax, tail. */
function decode(how, body) {
  const { codec, size, frames, emax, tail } = how;
  need(Number.isInteger(codec) && codec in WORD, `codec ${codec} is unknown`);
  need(Number.isInteger(size) && size >= 1 && size <= 1 << 24, "an impossible size");
  need(frames.length === FRAMES[codec], "another number of frames");
  need(JOINT.has(codec) ? Number.isInteger(emax) && emax >= 0 && emax <= 255 : emax === null, "an impossible emax");
  const rest = Buffer.from(tail, "hex");
  need(rest.length === size % WORD[codec] && tail.length === 2 * rest.length, "another tail");
  const count = Math.floor(size / WORD[codec]);
  const m = Math.ceil(count / 4);
  let at = 0;
  const streams = frames.map((length) => {
    need(Number.isInteger(length) && length > 0 && at + length <= body.length, "a frame is cut short");
    at += length;
    return inflate(body.subarray(at - length, at), 3 * m > count ? 3 * m : count);
  });
  need(at === body.length, "frames do not fill their place");
  streams.forEach((stream, i) => {
    if (JOINT.has(codec) && i === 2) return;
    need(stream.length === (codec === 5 && i === 1 ? 3 * m : count), "a stream of another length");
  });
  if (codec === 0) return streams[0];
  const out = Buffer.alloc(size);
  let upper;
  let low = streams.slice(2);
  if (JOINT.has(codec)) {
    const b = codec === 5 ? unpack(streams[1]) : streams[1];
    upper = unjoin(streams[0], b, streams[2], emax, count);
    low = streams.slice(3);
  } else {
    upper = Uint16Array.from({ length: count }, (_, i) => unrotate(streams[0][i], streams[1][i]));
  }
  for (let i = 0; i < count; i++) {
    if (WORD[codec] === 2) out.writeUInt16LE(upper[i], 2 * i);
    else out.writeUInt32LE(upper[i] * 65536 + (low[0][i] << 8) + low[1][i], 4 * i);
  }
  rest.copy(out, count * WORD[codec]);
  return out;
}

// ---- 3: packs

const MAGIC = { head: 0x184d2a50, object: 0x184d2a51, index: 0x184d2a52, trailer: 0x184d2a53 };

class Pack {
  constructor(path) {
    this.path = path;
    this.file = openSync(path, "r");
    this.size = fstatSync(this.file).size;
  }

  read(at, length) {
    need(at >= 0 && length >= 0 && at + length <= this.size, `${this.path}: nothing lies at ${at}`);
    const data = Buffer.alloc(length);
    need(readSync(this.file, data, 0, length, at) === length, `${this.path}: cut short`);
    return data;
  }

  frame(magic, at, most) {
    const head = this.read(at, 8);
    const size = head.readUInt32LE(4);
    need(head.readUInt32LE(0) === magic && size <= most, `${this.path}: no such frame at ${at}`);
    return this.read(at + 8, size);
  }

  /** Object name to its entries, from the index; from the headers if there is no index. */
  entries() {
    try {
      const at = Number(this.frame(MAGIC.trailer, this.size - 16, 8).readBigUInt64LE(0));
      return JSON.parse(this.frame(MAGIC.index, at, 1 << 24)).objects;
    } catch {
      return this.walk();
    }
  }

  walk() {
    const rows = [];
    let at = 0;
    while (at + 8 <= this.size) {
      try {
        const payload = this.frame(MAGIC.object, at, 1 << 16);
        const header = JSON.parse(payload);
        const stored = 8 + payload.length + header.frames.reduce((sum, length) => sum + length, 0);
        rows.push([header.blake3, at, stored, header.size, header.codec]);
        at += stored;
      } catch {
        at = this.next(at + 1);
        if (at < 0) break;
      }
    }
    return rows;
  }

  next(from) {
    const magic = Buffer.from("512a4d18", "hex");
    for (let at = from; at < this.size; at += 1 << 20) {
      const block = this.read(at, Math.min((1 << 20) + 3, this.size - at));
      const found = block.indexOf(magic);
      if (found >= 0) return at + found;
    }
    return -1;
  }

  object([name, offset, stored, size, codec, frames, emax, tail, bases]) {
    if (frames !== undefined && !(bases?.length > 0)) {
      try {
        const length = frames.reduce((sum, part) => sum + part, 0);
        need(length <= stored - 8, "an entry that is damaged");
        const plain = decode({ codec, size, frames, emax, tail }, this.read(offset + stored - length, length));
        if (digest(plain) === name) return plain;
      } catch {
        // The header is asked next.
      }
    }
    const payload = this.frame(MAGIC.object, offset, 1 << 16);
    const header = JSON.parse(payload);
    need(!(header.bases?.length > 0), "bases are of a codec that is unknown");
    const how = { emax: null, tail: "", ...header };
    const begin = 8 + payload.length;
    const length = how.frames.reduce((sum, part) => sum + part, 0);
    const plain = decode(how, this.read(offset + begin, length));
    need(digest(plain) === name, `object ${name} has another digest`);
    return plain;
  }

  close() {
    closeSync(this.file);
  }
}

// ---- 2, 6, 7, 8: the documents of an archive

function* filesBelow(folder, pattern) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path, pattern);
    else if (entry.isFile() && pattern.test(entry.name)) yield path;
  }
}

const SEAL = /^([0-9a-f]{40}|[0-9a-f]{64})\.([0-9a-f]{64})\.json$/;
const MANIFEST = /^([0-9a-f]{40}|[0-9a-f]{64})\.([0-9a-f]{64})\.json\.zst$/;
const EVENT = /^[0-9]{8}t[0-9]{6}z\.([0-9a-f]{64})\.json$/;
const nameOf = (path) => path.split("/").at(-1);
const understood = (document) => document.format === 1 && !(document.features?.read?.length > 0);

class Archive {
  constructor(root) {
    this.root = root;
    this.packs = new Map();
    if (existsSync(join(root, "archive.json"))) {
      need(understood(JSON.parse(readFileSync(join(root, "archive.json")))), "an archive of another format");
    }
    this.manifests = new Map();
    for (const path of filesBelow(join(root, "manifests"), MANIFEST)) this.manifests.set(nameOf(path).split(".")[1], path);
  }

  seals() {
    const seals = [];
    for (const path of filesBelow(join(this.root, "snapshots"), SEAL)) {
      const data = readFileSync(path);
      const [revision, id] = nameOf(path).split(".");
      if (digest(data) !== id) continue;
      const seal = JSON.parse(data);
      if (!understood(seal) || seal.kind !== "snapshot" || seal.revision !== revision) continue;
      seals.push({ ...seal, id });
    }
    return seals;
  }

  /** The manifest that a seal names: its file, or else its copy in packs. */
  manifest(seal) {
    const { blake3: name, objects } = seal.manifest;
    let data;
    try {
      data = inflate(readFileSync(this.manifests.get(name)), 1 << 26);
      need(digest(data) === name, "a manifest has another digest");
    } catch (error) {
      if (!objects) throw error;
      data = Buffer.concat(objects.map(([, piece]) => this.object(seal, piece)));
      need(digest(data) === name, "the copy of a manifest has another digest");
      need(createHash("sha256").update(data).digest("hex") === seal.manifest.sha256, "and another SHA-256");
    }
    const manifest = JSON.parse(data);
    need(manifest.kind === "manifest" && manifest.format === 1, "no manifest");
    need(manifest.source.repository === seal.repository && manifest.source.revision === seal.revision, "of something else");
    return manifest;
  }

  places(seal) {
    const names = seal.packs.map(([name]) => name);
    const key = names.join();
    if (!this.packs.has(key)) {
      const places = new Map();
      for (const name of names) {
        const path = join(this.root, "packs", name.slice(0, 2), `${name}.pack`);
        if (!existsSync(path)) continue;
        const pack = new Pack(path);
        for (const row of pack.entries()) places.set(row[0], [...(places.get(row[0]) ?? []), [pack, row]]);
      }
      this.packs.set(key, places);
    }
    return this.packs.get(key);
  }

  object(seal, name) {
    let problem = new Error(`object ${name} is in no pack`);
    for (const [pack, row] of this.places(seal).get(name) ?? []) {
      try {
        return pack.object(row);
      } catch (error) {
        problem = error;
      }
    }
    throw problem;
  }

  /** Section 7: which seal is meant by a repository. */
  choose(repository) {
    let seals = this.seals().filter((seal) => seal.repository === repository);
    need(seals.length > 0, `${repository} is not here`);
    const revision = this.sighted(repository);
    const whole = (seal) => {
      const { include, exclude, completeness } = seal.selection;
      return include.length === 0 && exclude.length === 0 && !completeness;
    };
    if (seals.some((seal) => seal.revision === revision && whole(seal))) seals = seals.filter((seal) => seal.revision === revision);
    const key = (seal) => [whole(seal) ? 1 : 0, this.rank(seal), seal.committed ?? this.manifest(seal).source.committed, seal.sealed, seal.id];
    const later = (a, b) => {
      for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] > b[i];
      return false;
    };
    return seals.reduce((best, seal) => (later(key(seal), key(best)) ? seal : best));
  }

  /** Section 7.1. */
  rank(seal) {
    const ranks = { upstream: 3, pin: 2, cache: 1 };
    let files;
    if (seal.vouched) {
      const count = seal.vouched.reduce((sum, [runs]) => sum + runs, 0);
      if (count !== seal.totals.files || seal.vouched.some(([runs]) => runs < 1)) return 0;
      files = seal.vouched.map(([, voucher, kind]) => (["sha256", "git-sha1"].includes(kind) ? ranks[voucher] ?? 0 : 0));
    } else {
      const { source, files: listed } = this.manifest(seal);
      const by = source.upstream === "huggingface" ? 3 : 1;
      files = listed.map((file) => (file.lfs || file.oid ? by : 0));
    }
    return Math.min(3, ...files);
  }

  sighted(repository) {
    const events = [];
    for (const path of filesBelow(join(this.root, "journal"), EVENT)) {
      const data = readFileSync(path);
      const id = nameOf(path).split(".")[1];
      if (digest(data) !== id) continue;
      const event = JSON.parse(data);
      if (event.kind !== "event" || event.event !== "sighted" || event.repository !== repository) continue;
      if (event.detail.name === "main" && event.detail.upstream !== "directory") events.push({ ...event, id });
    }
    events.sort((a, b) => (a.time + a.id < b.time + b.id ? -1 : 1));
    return events.at(-1)?.revision;
  }
}

/** Section 6.3: no path that could lead elsewhere. */
function checkPaths(paths) {
  const files = new Set(paths);
  need(files.size === paths.length, "a path that comes twice");
  for (const path of paths) {
    need(path.isWellFormed?.() ?? true, "a path that is no text");
    need(Buffer.byteLength(path) <= 1024 && !path.includes("\0"), `an impossible path ${JSON.stringify(path)}`);
    const parts = path.split("/");
    need(parts.every((part) => ![".", "..", ""].includes(part) && Buffer.byteLength(part) <= 255), `an impossible path ${JSON.stringify(path)}`);
    parts.slice(1).forEach((_, i) => need(!files.has(parts.slice(0, i + 1).join("/")), "a file that is a folder"));
  }
}

function restore(root, destination) {
  const archive = new Archive(root);
  let count = 0;
  for (const seal of archive.seals()) {
    const { files } = archive.manifest(seal);
    checkPaths(files.map((file) => file.path));
    for (const file of files) {
      const pieces = file.segments.map(([size, name]) => {
        const plain = archive.object(seal, name);
        need(plain.length === size, "a segment of another length");
        return plain;
      });
      const data = Buffer.concat(pieces);
      need(data.length === file.size, `${file.path}: another size`);
      need(createHash("sha256").update(data).digest("hex") === file.sha256, `${file.path}: another SHA-256`);
      const path = join(destination, seal.id, file.path);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, data, { flag: "wx" });
      count++;
    }
  }
  console.log(`${count} files restored`);
}

// ---- annex B: vectors

function objectOf(stored) {
  const size = stored.readUInt32LE(4);
  need(stored.readUInt32LE(0) === MAGIC.object, "no object header");
  const header = JSON.parse(stored.subarray(8, 8 + size));
  need(!(header.bases?.length > 0), "bases are of a codec that is unknown");
  const plain = decode({ emax: null, tail: "", ...header }, stored.subarray(8 + size));
  need(plain.length === header.size, "another size");
  return plain;
}

function refuses(stored, name) {
  try {
    return digest(objectOf(stored)) !== name;
  } catch {
    return true;
  }
}

function multiply(a, b) {
  let product = 0;
  for (; b; b >>= 1) {
    if (b & 1) product ^= a;
    a = (a << 1) ^ (a & 0x80 ? 0x11d : 0);
  }
  return product;
}

function inverse(a) {
  for (let b = 1; b < 256; b++) if (multiply(a, b) === 1) return b;
  throw new Error("0 has no inverse");
}

/** Section 10: the block at x of the polynomials through the others. */
function interpolate(x, known) {
  const out = Buffer.alloc(known[0][1].length);
  for (const [at, block] of known) {
    let factor = 1;
    for (const [other] of known) if (other !== at) factor = multiply(factor, multiply(x ^ other, inverse(at ^ other)));
    block.forEach((byte, i) => (out[i] ^= multiply(factor, byte)));
  }
  return out;
}

function checkParity(vector) {
  const file = Buffer.from(vector.file, "hex");
  const blocks = [];
  for (let at = 0; at < file.length; at += vector.block) blocks.push(file.subarray(at, at + vector.block));
  const points = [0, 1];
  while (points.length < blocks.length + vector.parity) points.push(multiply(points.at(-1), 2));
  const known = blocks.map((block, i) => [points[i], block]);
  vector.blocks.forEach((coded, j) => need(hex(interpolate(points[blocks.length + j], known)) === coded, "another parity block"));
  const left = [...known.slice(2), ...vector.blocks.map((coded, j) => [points[blocks.length + j], Buffer.from(coded, "hex")])];
  need(interpolate(points[0], left).equals(blocks[0]) && interpolate(points[1], left).equals(blocks[1]), "parity gives other bytes");
}

function checkSignature({ file, key, signed }) {
  const [, second, third, fourth] = file.split("\n");
  const raw = Buffer.from(key, "base64");
  const made = Buffer.from(second, "base64");
  need(made.length === 74 && made.subarray(0, 2).equals(Buffer.from("ED")) && made.subarray(2, 10).equals(raw.subarray(2, 10)), "another key");
  const prefix = Buffer.from("302a300506032b6570032100", "hex");
  const publicKey = createPublicKey({ key: Buffer.concat([prefix, raw.subarray(10)]), format: "der", type: "spki" });
  const hashed = createHash("blake2b512").update(Buffer.from(signed, "hex")).digest();
  need(verify(null, hashed, publicKey, made.subarray(10)), "the signature does not hold");
  const comment = Buffer.from(third.slice("trusted comment: ".length));
  need(verify(null, Buffer.concat([made.subarray(10), comment]), publicKey, Buffer.from(fourth, "base64")), "the comment's does not hold");
}

const ODD = /[\u0000-\u001f\u007f-\u009f\\<>:"|?*%]|[. ]+$/gu;

/** Section 6.3: a path without what only some filesystems can hold. */
function otherName(path) {
  const escape = (odd) => [...Buffer.from(odd)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
  return path.split("/").map((part) => part.replace(ODD, escape)).join("/");
}

function vectors(paths) {
  let count = 0;
  for (const path of paths) {
    const all = JSON.parse(readFileSync(path));
    for (const vector of all.objects) {
      const [kind, zeros] = vector.plain.split(":");
      const plain = kind === "zeros" ? Buffer.alloc(Number(zeros)) : Buffer.from(vector.plain, "hex");
      const made = objectOf(Buffer.from(vector.object, "hex"));
      need(made.equals(plain) && digest(made) === vector.blake3, vector.name);
      count++;
    }
    for (const vector of [...(all.refused ?? []), ...(all.malformed ?? [])]) {
      need(refuses(Buffer.from(vector.object, "hex"), vector.blake3), `${vector.name}: not refused`);
      count++;
    }
    for (const vector of all.short?.codecs ?? []) {
      need(hex(objectOf(Buffer.from(vector.object, "hex"))) === all.short.plain, `codec ${vector.codec}`);
      count++;
    }
    if (all.parity) checkParity(all.parity);
    if (all.signature) checkSignature(all.signature);
    for (const { path: from, name } of all.names ?? []) need(otherName(from) === name, `${JSON.stringify(from)} is called ${otherName(from)}`);
  }
  console.log(`${count} vectors hold`);
}

const [command, ...words] = process.argv.slice(2);
try {
  if (command === "restore") restore(...words);
  else if (command === "choose") console.log(new Archive(words[0]).choose(words[1]).id);
  else if (command === "vectors") vectors(words);
  else throw new Error("usage: restore ARCHIVE DESTINATION, choose ARCHIVE REPOSITORY, or vectors FILE...");
} catch (error) {
  console.error(`reader: ${error.message}`);
  process.exitCode = 1;
}
