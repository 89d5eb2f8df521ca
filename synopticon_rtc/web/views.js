// What there is to show of people: a tile for each video, and one for whoever has none.

import { clock } from "./journal.js";

/**
 * @param {Person[]} people
 * @returns {object[]} `key` (stays the same while the tile does), `person`, `first` (its first), `name`, `words` (why there is no picture, empty
 *   where there is to be one), `state`, `stream` (its name; null where it has none), `hint`, `track` and `sound` (null where
 *   there is none), `recorded`, `silent`
 */
export function views(people) {
  return people.flatMap((person) => {
    const videos = person.connection?.videos ?? [];
    return (videos.length > 0 ? videos : [null]).map((video, index) => viewOf(person, video, index));
  });
}

/** Who is not shown, in words; empty where nobody is missing. */
export function absent({ more, declined }) {
  const words = [...declined.values()].map(({ name, reason }) => `${name} does not let you watch: ${reason}`);
  if (more > 0) words.push(more === 1 ? "One more is not shown" : `${more} more are not shown`);
  return words.join(". ");
}

function viewOf(person, video, index) {
  const { id, name, state, connection } = person;
  const first = index === 0;
  const title = first && video?.hint !== "screen" ? name : `${name} · ${video.name ?? video.hint}`;
  return {
    key: first ? `${id}` : `${id} ${video.name}`,
    person,
    first,
    name: title,
    words: words(person, video),
    state,
    stream: video?.name ?? null,
    hint: video?.hint ?? "",
    track: video?.track ?? null,
    sound: first ? (connection?.sound?.track ?? null) : null,
    recorded: connection?.recorded ?? false,
    silent: first && (connection?.silent ?? false),
  };
}

function words({ state, since, connection }, video) {
  if (state === "interrupted") return `Gone since ${clock(since)}`;
  if (state === "connecting") return "Connecting…";
  if (video === null) return connection.sound === null ? "Sends nothing now" : "Sound alone";
  if (video.muted) return video.hint === "camera" ? "Camera off" : "Paused";
  return "";
}
