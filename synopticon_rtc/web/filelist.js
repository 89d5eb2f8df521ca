// What people see of files: those that are offered, with a question, and those on their way. What is dropped on the page is offered.

const GONE = 20_000; // ms after which what is done is shown no more

/** Say how many bytes something has, in words. */
export function sized(octets) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = octets;
  let unit = 0;
  for (; value >= 1_000 && unit < units.length - 1; unit += 1) value /= 1_000;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export class FileList {
  #list = document.createElement("ul");
  #rows = new Map(); // by transfer
  #count = 0; // of all rows that there were
  #to;

  /**
   * @param {() => object[]} to returns the `Files` of those to whom goes what is dropped
   * @param {(text: string) => void} log
   */
  constructor(to, log) {
    this.#to = to;
    this.#list.id = "files";
    this.#list.setAttribute("aria-label", "Files");
    this.#list.setAttribute("aria-live", "polite");
    this.#list.hidden = true;
    document.body.append(this.#list);
    addEventListener("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
    addEventListener("drop", (event) => {
      const files = [...(event.dataTransfer?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      if (!this.send(files)) log("Nobody is there who takes files");
    });
  }

  /** Offer files to all who are there; false where nobody is. */
  send(files) {
    const to = this.#to();
    for (const each of to) for (const file of files) this.changed(each.send(file));
    return to.length > 0;
  }

  /** Ask whether a file is wanted. */
  offered(transfer) {
    this.changed(transfer);
  }

  /** Show how far one is. */
  changed(transfer) {
    const row = this.#rows.get(transfer) ?? this.#add(transfer);
    const { name, size, octets, state, sent, reason } = transfer;
    const said = {
      offered: sent ? `${sized(size)}, waiting for an answer` : `${sized(size)}: do you want it?`,
      moving: `${sized(octets)} of ${sized(size)}`,
      done: sent ? "sent" : "received",
      failed: reason,
    };
    if (row.name.textContent !== name) row.name.textContent = name;
    if (row.text.textContent !== said[state]) row.text.textContent = said[state];
    row.text.ariaLive = state === "moving" ? "off" : "polite"; // else every figure is read out
    row.bar.hidden = state !== "moving";
    row.bar.value = size === 0 ? 1 : octets / size;
    row.take.hidden = sent || state !== "offered";
    row.end.hidden = transfer.isOver;
    row.end.textContent = sent || state !== "offered" ? "Cancel" : "No";
    if (transfer.isOver && !row.leaving) {
      row.leaving = true;
      setTimeout(() => this.#remove(transfer), GONE);
    }
  }

  #add(transfer) {
    const [item, name, text, bar, take, end] = ["li", "strong", "span", "progress", "button", "button"].map((tag) =>
      document.createElement(tag),
    );
    take.textContent = "Take it";
    take.type = end.type = "button";
    bar.setAttribute("aria-label", "How far it is");
    name.id = `file-${(this.#count += 1)}`;
    for (const each of [bar, take, end]) each.setAttribute("aria-describedby", name.id); // there may be several
    take.addEventListener("click", () => transfer.accept());
    end.addEventListener("click", () => (transfer.state === "offered" && !transfer.sent ? transfer.reject() : transfer.cancel()));
    item.append(name, text, bar, take, end);
    this.#list.append(item);
    this.#list.hidden = false;
    const row = { item, name, text, bar, take, end, leaving: false };
    this.#rows.set(transfer, row);
    return row;
  }

  #remove(transfer) {
    this.#rows.get(transfer)?.item.remove();
    this.#rows.delete(transfer);
    this.#list.hidden = this.#rows.size === 0;
  }
}
