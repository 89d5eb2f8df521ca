// Controls that several pages have.

import { choices } from "./devices.js";
import { MODES } from "./overlay.js";
import { recall, remember } from "./storage.js";

/** Let people choose how faces are drawn; returns the function that sets it. */
export function chooseMode(row, apply) {
  const set = (mode) => {
    apply(mode);
    row.querySelector(`[value="${mode}"]`).checked = true;
    remember("mode", mode);
  };
  row.onchange = ({ target }) => set(target.value);
  set(MODES.includes(recall("mode")) ? recall("mode") : "mesh");
  return set;
}

/** Have a button show the page on the whole screen; returns the function that does it. */
export function offerFullScreen(button, log) {
  const toggle = () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch((error) => log(`No full screen: ${error.message}`));
  };
  button.onclick = toggle;
  button.hidden = !document.fullscreenEnabled;
  return () => document.fullscreenEnabled && toggle();
}

/** Have keys do something, but where somebody writes. */
export function takeKeys(keys) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.target.closest?.("input:not([type=radio]), textarea, select")) return;
    keys[event.key.length === 1 ? event.key.toLowerCase() : event.key]?.();
  });
}

/** The keys that set how faces are drawn, while that can be chosen. */
export function modeKeys(row, set) {
  return Object.fromEntries(MODES.map((mode) => [mode[0], () => row.disabled || set(mode)]));
}

/** Change a text only where it differs, so that it is not read aloud again. */
export function write(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Load the page anew with another address: parameters of the query, null for those that are to go. */
export function goWith(parameters) {
  const query = new URLSearchParams(location.search); // the token is in the history, and stays there
  for (const [key, value] of Object.entries(parameters)) {
    if (value === null) query.delete(key);
    else query.set(key, value);
  }
  history.replaceState(history.state, "", `?${query}${location.hash}`);
  location.reload();
}

/** Have a button say what it switches, and whether that is on. */
export function showSwitch(button, on, what) {
  button.toggleAttribute("data-off", !on);
  const words = `Switch ${what} ${on ? "off" : "on"}`;
  button.setAttribute("aria-label", words);
  button.title = words;
}

/** Have a button say whether the screen is shared. */
export function showShared(button, shared) {
  button.toggleAttribute("data-on", shared);
  button.setAttribute("aria-label", shared ? "Share the screen no longer" : "Share the screen");
}

/** Offer the cameras and microphones that there are now. */
export async function offerDevices(cameras, microphones, sources) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  fillDevices(cameras, choices(devices, "videoinput"), sources.camera);
  fillDevices(microphones, choices(devices, "audioinput"), sources.microphone);
  await sources.look(devices);
}

/** Fill a list with devices (devices.js), of which a track comes from one. */
function fillDevices(select, options, track) {
  const current = track?.getSettings().deviceId;
  const known = options.some(({ id }) => id === current);
  const none = new Option(options.length === 0 ? "None found" : "None", "");
  select.replaceChildren(...(known ? [] : [none]), ...options.map(({ id, label }) => new Option(label, id)));
  select.value = known ? current : "";
  select.disabled = options.length === 0;
}

/** Have one of some panels open at most, and none once somebody clicks elsewhere or presses Escape. */
export function goTogether(panels) {
  const close = (but) => panels.filter((panel) => panel !== but).forEach((panel) => (panel.open = false));
  addEventListener("pointerdown", ({ target }) => close(target.closest?.(".tool-panel")));
  addEventListener("keydown", ({ key }) => {
    const open = panels.find((panel) => panel.open);
    if (key !== "Escape" || open === undefined) return;
    close();
    open.querySelector("summary").focus();
  });
}
