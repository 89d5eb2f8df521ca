// What happened, as lines that people can open.

const LINES = 200;

/** Add a line to a list, which scrolls along for whoever reads its end. */
export function note(list, text) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  const line = document.createElement("li");
  const time = document.createElement("time");
  const date = new Date();
  time.dateTime = date.toISOString();
  time.textContent = clock(date);
  line.append(time, String(text).slice(0, 300));
  list.append(line);
  while (list.childElementCount > LINES) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** The time of day. */
export function clock(date) {
  return date.toTimeString().slice(0, 8);
}
