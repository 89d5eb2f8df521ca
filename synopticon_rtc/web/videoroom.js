// Watches one who publishes in a VideoRoom of a Janus server.

const PLUGIN = "janus.plugin.videoroom";
const KEEPALIVE = 25_000; // ms; a session ends without any within 60 s
const RETRY = 1_000; // ms

export class VideoRoom {
  #address;
  #from;
  #on;
  #socket = null;
  #session = null;
  #room = null; // the handle by which we know who publishes
  #subscriber = null; // and that of what we are sent
  #waiting = new Map(); // by transaction: { resolve, reject }
  #number = 0;
  #keeping = 0;
  #private = null;
  #worker = null;

  /** Who publishes in the room: names by the number of the feed. */
  feeds = new Map();
  /** The connection, null while there is none. */
  peer = null;
  /** Whose it is, by number. */
  feed = null;
  /** Why there is no session, null where there is one. */
  trouble = null;

  /**
   * @param {string} address of the room, as docs/janus.md has it
   * @param {string|null} from name or number of who is wanted, null for the first
   * @param {object} on `changed()`, `track(track, description)`, `message(data)`, `frame(mid, timestamp, mark)`
   */
  constructor(address, from, on) {
    const url = new URL(address.replace(/^janus[+ ]/, ""));
    const path = url.pathname.split("/").filter((part) => part !== "");
    const room = decodeURIComponent(path.pop() ?? "");
    this.#address = { url: `${url.protocol}//${url.host}/${path.join("/")}`, room: /^\d+$/.test(room) ? Number(room) : room };
    this.#address.secrets = Object.fromEntries(["pin", "token"].filter((key) => url.searchParams.has(key))
      .map((key) => [key, url.searchParams.get(key)]));
    this.#address.always = Object.fromEntries([["token", "token"], ["secret", "apisecret"]]
      .filter(([key]) => url.searchParams.has(key)).map(([key, name]) => [name, url.searchParams.get(key)]));
    this.#from = from;
    this.#on = on;
    this.#connect();
  }

  /** Whether pages of this browser see encoded frames, without which nothing is exact. */
  static get seesFrames() {
    return typeof RTCRtpScriptTransform === "function";
  }

  close() {
    this.#socket?.close();
  }

  #connect() {
    const socket = new WebSocket(this.#address.url, "janus-protocol");
    this.#socket = socket;
    socket.onopen = () => this.#enter().catch((error) => {
      this.trouble = error.message;
      socket.close();
    });
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => {
      this.trouble ??= "Janus is not reachable";
      clearInterval(this.#keeping);
      for (const { reject } of this.#waiting.values()) reject(new Error("the connection to Janus is lost"));
      this.#waiting.clear();
      [this.#session, this.#room] = [null, null];
      this.feeds.clear();
      this.#leave();
      setTimeout(() => this.#connect(), RETRY);
    };
  }

  async #enter() {
    this.#session = (await this.#request("create")).data.id;
    this.#keeping = setInterval(() => this.#send("keepalive", `alive-${++this.#number}`), KEEPALIVE);
    this.#room = (await this.#request("attach", { plugin: PLUGIN })).data.id;
    const { data } = await this.#ask(this.#room, { request: "join", ptype: "publisher", ...this.#address.secrets });
    this.#private = data.private_id;
    this.trouble = null;
    this.#meet(data.publishers ?? []);
    this.#on.changed();
  }

  #meet(publishers) {
    for (const { id, display } of publishers) this.feeds.set(id, display || String(id));
    this.#choose();
  }

  #choose() {
    if (this.feed !== null) return;
    const wanted = [...this.feeds].find(([id, name]) => [null, String(id), name].includes(this.#from));
    if (wanted !== undefined) this.#subscribe(wanted[0]).catch(() => this.#leave());
  }

  async #subscribe(feed) {
    this.feed = feed;
    const handle = (await this.#request("attach", { plugin: PLUGIN })).data.id;
    if (this.feed !== feed) return;
    this.#subscriber = handle;
    const { data, jsep } = await this.#ask(handle, {
      request: "join", ptype: "subscriber", streams: [{ feed }], private_id: this.#private, autoupdate: false,
      ...this.#address.secrets,
    });
    const peer = (this.peer = new RTCPeerConnection());
    peer.onicecandidate = ({ candidate }) =>
      this.#send("trickle", `ice-${++this.#number}`, { handle_id: handle, candidate: candidate ?? { completed: true } });
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed" && this.peer === peer) this.#leave();
      this.#on.changed();
    };
    const described = new Map(data.streams.map((stream) => [stream.mid, stream.feed_description]));
    peer.ontrack = ({ track, receiver, transceiver }) => {
      if (track.kind === "video") this.#watch(receiver, transceiver.mid);
      this.#on.track(track, transceiver.mid, readDescription(described.get(transceiver.mid), track.kind));
    };
    await peer.setRemoteDescription(jsep);
    // Janus sends on the channel of this name that is there, in the way that it was opened.
    const channel = peer.createDataChannel(String(feed), { ordered: false, maxRetransmits: 0 });
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data: message }) => this.#on.message(message);
    await peer.setLocalDescription();
    await this.#ask(handle, { request: "start" }, { type: "answer", sdp: peer.localDescription.sdp });
    this.#on.changed();
  }

  /** Have a worker tell of each encoded frame. */
  #watch(receiver, mid) {
    if (!VideoRoom.seesFrames) return;
    if (this.#worker === null) {
      this.#worker = new Worker("fingerprints.js", { type: "module" });
      this.#worker.onmessage = ({ data }) => this.#on.frame(data.mid, data.timestamp, data.mark);
    }
    receiver.transform = new RTCRtpScriptTransform(this.#worker, { mid });
  }

  #leave() {
    if (this.#subscriber !== null && this.#session !== null) {
      this.#send("detach", `detach-${++this.#number}`, { handle_id: this.#subscriber });
    }
    this.peer?.close();
    this.#worker?.terminate();
    [this.#subscriber, this.peer, this.feed, this.#worker] = [null, null, null, null];
    this.#on.changed();
    setTimeout(() => this.#session !== null && this.#choose(), RETRY);
  }

  #take(message) {
    const waiting = this.#waiting.get(message.transaction);
    const told = message.plugindata?.data ?? {};
    if (waiting !== undefined) {
      if (message.janus === "ack") return;
      this.#waiting.delete(message.transaction);
      const words = message.error?.reason ?? told.error;
      if (words === undefined) waiting.resolve(message);
      else waiting.reject(new Error(words));
      return;
    }
    const gone = [told.unpublished, told.leaving, told.kicked].find((id) => this.feeds.has(id));
    if (gone !== undefined) this.feeds.delete(gone);
    const hungUp = message.janus === "hangup" && message.sender === this.#subscriber;
    if (this.feed !== null && (gone === this.feed || hungUp)) this.#leave();
    if (message.janus === "trickle" && message.sender === this.#subscriber && message.candidate.candidate) {
      this.peer?.addIceCandidate(message.candidate).catch(() => {});
    }
    if (message.sender === this.#room) this.#meet(told.publishers ?? []);
  }

  #send(janus, transaction, fields = {}) {
    const session = this.#session === null ? {} : { session_id: this.#session };
    this.#socket.send(JSON.stringify({ janus, transaction, ...this.#address.always, ...session, ...fields }));
  }

  #request(janus, fields) {
    return new Promise((resolve, reject) => {
      const transaction = `${janus}-${++this.#number}`;
      this.#waiting.set(transaction, { resolve, reject });
      this.#send(janus, transaction, fields);
    });
  }

  async #ask(handle, body, jsep) {
    const fields = { handle_id: handle, body: { room: this.#address.room, ...body } };
    const reply = await this.#request("message", jsep === undefined ? fields : { ...fields, jsep });
    return { data: reply.plugindata.data, jsep: reply.jsep };
  }
}

/** What a publisher says of a stream: of this package all, of others its name. */
function readDescription(text, kind) {
  try {
    const { name, hint } = JSON.parse(text);
    if (typeof name === "string") return { name, hint };
  } catch {
    // it is of another's
  }
  return { name: text || (kind === "video" ? "camera" : "microphone"), hint: "" };
}
