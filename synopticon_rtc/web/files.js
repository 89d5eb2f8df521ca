// Files between this page and one peer, each over a data channel of its own (docs/files.md).

import { now } from "./clock.js";
import { Sha256 } from "./sha256.js";

export const PROTOCOL = "file/1";
const WINDOW = 1_572_864; // bytes beyond what is stored here that the other end may send
const BLOCK = 262_144; // bytes that are read and hashed at once
const PIECE = 16_384; // of a message
const GATHERED = 65_536; // bytes that are written at once
const BUFFERED = 65_536; // that wait in the browser: more would hold up what is live
const MOST = 12; // offers of one peer at once
const REFUSED = 100; // refused offers after which a peer's are heard no more
const LONGEST_NAME = 255;
const DEEPEST = 16;
const PART = 8 * 2 ** 20; // bytes of which a browser that cannot write to the disk makes one piece it may put there

/** Whether something is a number of bytes. */
function isOctets(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

function isName(value) {
  return typeof value === "string" && value.length > 0 && value.length <= LONGEST_NAME;
}

/** Read an offer; null where it is none. */
export function readOffer({ type, name, size, folder = [] }) {
  const sound = type === "offer" && isName(name) && isOctets(size) && Array.isArray(folder) && folder.length <= DEEPEST;
  return sound && folder.every(isName) ? { name, size, folder } : null;
}

/** One file on its way, at either end. */
class Transfer {
  #channel;
  #changed;

  /** "offered", "moving", "done" or "failed". */
  state = "offered";

  /** Why it failed, in words. */
  reason = "";

  /** Bytes that have come, or that the other end has. */
  octets = 0;

  constructor(channel, changed, { name, size, sent }) {
    this.#channel = channel;
    this.#changed = changed;
    this.name = name;
    this.size = size;
    this.sent = sent;
    this.begun = now();
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => this.#received(data);
    channel.onclose = () => this.fail("the connection is gone");
  }

  get isOver() {
    return this.state === "done" || this.state === "failed";
  }

  /** End it, and tell the other end why. */
  cancel(reason = "cancelled") {
    if (this.isOver) return;
    this.say({ type: "cancel", reason: reason.slice(0, 200) });
    this.fail(reason);
  }

  say(message) {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  fail(reason) {
    if (this.isOver) return;
    this.reason = reason;
    this.end("failed");
  }

  end(state) {
    this.state = state;
    this.#channel.onclose = this.#channel.onmessage = null;
    this.changed();
    if (state === "failed" || this.sent) this.#channel.close(); // else the other end does, once it knows
  }

  changed() {
    this.#changed(this);
  }

  #received(data) {
    try {
      if (typeof data !== "string") return this.took(new Uint8Array(data));
      const message = JSON.parse(data);
      if (message?.type === "cancel") return this.fail(String(message.reason || "no reason was given"));
      this.heard(message);
    } catch (error) {
      this.cancel(`broken rules: ${error.message}`);
    }
  }
}

class Outgoing extends Transfer {
  #channel;
  #file;
  #limit = 0;
  #woken = () => {};

  constructor(channel, changed, file) {
    super(channel, changed, { name: file.name, size: file.size, sent: true });
    this.#channel = channel;
    this.#file = file;
    channel.bufferedAmountLowThreshold = BUFFERED / 2;
    channel.onbufferedamountlow = () => this.#woken();
    const offer = { type: "offer", name: file.name.slice(0, LONGEST_NAME), size: file.size, modified: file.lastModified / 1_000 };
    if (channel.readyState === "open") this.say(offer);
    else channel.onopen = () => this.say(offer);
  }

  took() {
    throw new Error("content came from the wrong end");
  }

  heard({ type, at = 0, sha256 = "", octets }) {
    if (type === "accept" && this.state === "offered" && isOctets(at)) {
      this.state = "moving";
      this.#send(at, sha256).catch((error) => this.cancel(`it cannot be read: ${error.message}`));
    } else if (type === "limit" && isOctets(octets)) {
      this.#limit = Math.max(this.#limit, octets);
      this.octets = Math.min(Math.max(octets - WINDOW, this.octets), this.size);
      this.changed();
      this.#woken();
    } else if (type === "done") {
      this.octets = this.size;
      this.end("done");
    }
  }

  async #send(there, digest) {
    let hash = new Sha256();
    let at = 0;
    for (; at < there && there <= this.size; at += BLOCK) hash.update(await this.#read(at, Math.min(at + BLOCK, there)));
    at = hash.hex === digest && there <= this.size ? there : 0;
    if (at === 0) hash = new Sha256();
    this.#limit = Math.max(this.#limit, at + WINDOW);
    this.octets = at;
    this.say({ type: "begin", at });
    while (at < this.size && !this.isOver) {
      const block = await this.#read(at, Math.min(at + BLOCK, this.size));
      hash.update(block);
      for (let from = 0; from < block.length; from += PIECE) {
        const piece = block.subarray(from, from + PIECE);
        while (!this.isOver && (at + piece.length > this.#limit || this.#channel.bufferedAmount > BUFFERED)) {
          await new Promise((resolve) => (this.#woken = resolve));
        }
        if (this.isOver) return;
        this.#channel.send(piece);
        at += piece.length;
      }
    }
    this.say({ type: "end", sha256: hash.hex });
  }

  end(state) {
    super.end(state);
    this.#woken();
  }

  async #read(from, to) {
    const bytes = new Uint8Array(await this.#file.slice(from, to).arrayBuffer());
    if (bytes.length !== to - from) throw new Error("it has become shorter");
    return bytes;
  }
}

class Incoming extends Transfer {
  #hash = new Sha256();
  #sink = null;
  #came = 0;
  #limit = 0;
  #begun = false;
  #digest = null;
  #pieces = []; // that are not written yet
  #gathered = 0; // bytes in these
  #written = Promise.resolve(); // one block after the other

  constructor(channel, changed, offer, refused) {
    super(channel, changed, { ...offer, sent: false });
    this.folder = offer.folder;
    this.refused = refused;
  }

  /** Have it sent. Ask only when a person wants it: where the browser can, they choose the place in its dialogue. */
  async accept(open = openSink) {
    if (this.state !== "offered" || this.#sink !== null) return;
    try {
      this.#sink = await open(this.name);
    } catch (error) {
      if (error.name !== "AbortError") this.cancel(`it cannot be stored: ${error.message}`); // else they may change their mind
      return;
    }
    if (this.isOver) return void this.#sink.abort();
    this.state = "moving";
    this.say({ type: "accept" });
    this.changed();
  }

  reject(reason = "it is not wanted") {
    if (this.state !== "offered") return;
    this.refused();
    this.cancel(reason);
  }

  heard({ type, at = 0, sha256 }) {
    if (type === "begin" && at === 0 && this.#sink !== null && !this.#begun) {
      this.#begun = true;
      this.#limit = WINDOW;
    } else if (type === "end" && this.#begun && this.#digest === null) {
      this.#digest = String(sha256);
      this.#store();
      this.#then(() => this.#finish());
    } else {
      throw new Error(`unexpected ${String(type).slice(0, 20)}`);
    }
  }

  took(bytes) {
    this.#came += bytes.length;
    if (!this.#begun || this.#came > Math.min(this.#limit, this.size)) throw new Error("more came than may");
    this.#hash.update(bytes);
    this.#pieces.push(bytes);
    this.#gathered += bytes.length;
    if (this.#gathered >= GATHERED) this.#store();
  }

  end(state) {
    super.end(state);
    this.#pieces = [];
    if (state === "failed") this.#sink?.abort();
  }

  /** Write what was gathered: a browser takes as long over a piece as over many. */
  #store() {
    const block = new Uint8Array(this.#gathered);
    let at = 0;
    for (const piece of this.#pieces) {
      block.set(piece, at);
      at += piece.length;
    }
    this.#pieces = [];
    this.#gathered = 0;
    this.#then(() => this.#write(block));
  }

  #then(step) {
    this.#written = this.#written.then(step).catch((error) => this.cancel(`it cannot be stored: ${error.message}`));
  }

  async #write(bytes) {
    if (this.isOver) return;
    await this.#sink.write(bytes);
    this.octets += bytes.length;
    if (this.octets + WINDOW - this.#limit >= WINDOW / 8) {
      this.#limit = this.octets + WINDOW;
      this.say({ type: "limit", octets: this.#limit });
    }
    this.changed();
  }

  async #finish() {
    if (this.isOver) return;
    if (this.octets !== this.size || this.#hash.hex !== this.#digest) {
      this.cancel("its SHA-256 is another");
      return;
    }
    await this.#sink.close();
    this.say({ type: "done" });
    this.end("done");
  }
}

/** All files between this page and one peer. */
export class Files {
  #open;
  #on;
  #all = new Set();
  #refusals = 0;

  /**
   * @param {(label: string) => RTCDataChannel} open opens a channel
   * @param {object|null} on `offered(incoming)` (a person is to be asked), `changed(transfer)`; null where nobody takes files
   */
  constructor(open, on) {
    this.#open = open;
    this.#on = on;
  }

  /** Take a channel that the peer has opened, if it is for a file. */
  adopt(channel) {
    if (channel.protocol !== PROTOCOL) return false;
    const waiting = [...this.#all].filter((each) => !each.sent && !each.isOver).length;
    if (this.#on === null || waiting >= MOST || this.#refusals >= REFUSED) {
      channel.close();
      return true;
    }
    channel.onmessage = ({ data }) => {
      const offer = readOffer(parsed(data));
      if (offer === null) {
        this.#refusals += 1;
        channel.close();
        return;
      }
      const incoming = new Incoming(channel, (each) => this.#changed(each), offer, () => (this.#refusals += 1));
      this.#all.add(incoming);
      this.#on.offered(incoming);
    };
    return true;
  }

  /** Offer a file, a `File`. */
  send(file) {
    const label = crypto.getRandomValues(new Uint32Array(2)).join("");
    const outgoing = new Outgoing(this.#open(label), (each) => this.#changed(each), file);
    this.#all.add(outgoing);
    return outgoing;
  }

  #changed(transfer) {
    if (transfer.isOver) this.#all.delete(transfer);
    this.#on?.changed(transfer);
  }

  /** The connection is gone. */
  close() {
    for (const each of this.#all) each.fail("the connection is gone");
    this.#all.clear();
  }
}

function parsed(data) {
  try {
    return Object(JSON.parse(data));
  } catch {
    return {};
  }
}

/** Open what a file is written to: a file that people choose, or pieces that are downloaded in the end. */
async function openSink(name) {
  if (typeof globalThis.showSaveFilePicker === "function") {
    const handle = await globalThis.showSaveFilePicker({ suggestedName: name.replaceAll(/[/\\:*?"<>|\p{C}]/gu, "_") });
    return handle.createWritable();
  }
  return new Download(name);
}

/** Gathers pieces, and downloads them. */
class Download {
  #name;
  #parts = [];
  #blobs = [];
  #size = 0;

  constructor(name) {
    this.#name = name;
  }

  async write(bytes) {
    this.#parts.push(bytes);
    this.#size += bytes.length;
    if (this.#size >= PART) this.#gather();
  }

  async close() {
    this.#gather();
    const url = URL.createObjectURL(new Blob(this.#blobs.splice(0)));
    Object.assign(document.createElement("a"), { href: url, download: this.#name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  async abort() {
    this.#parts = this.#blobs = [];
  }

  #gather() {
    this.#blobs.push(new Blob(this.#parts.splice(0)));
    this.#size = 0;
  }
}
