/** The recording: a player whose URL is renewed when it has expired, and a strip of who spoke when. */

import { Icon, Trouble, api, clock, html, showKeys, useEffect, useMemo, useRef, useState } from "./app.js";
import { isSecond } from "./transcript.js";

const EARLY = 20_000; // ms before its end at which a URL counts as expired
const SPEEDS = [0.75, 1, 1.25, 1.5, 2, 3];

/** Where the call is: `seconds()`, `seek`, `toggle`, and `listen` for what happens. Works without a recording too. */
export function usePlayer(id, audible, moved) {
  const audio = useRef();
  const self = useRef({ at: 0, expires: 0, renewed: 0 }).current;
  const [playing, setPlaying] = useState(false);
  const [error, setError] = useState(null);
  self.moved = moved;

  /** Take a new URL and go on where it was. */
  const renew = async () => {
    const { url, expires_at: expires } = await api(["calls", id, "audio"]);
    if (!audio.current) return;
    Object.assign(self, { expires: new Date(expires).getTime(), renewed: Date.now() });
    audio.current.src = url;
    audio.current.currentTime = self.at;
    setError(null);
  };
  const play = async () => {
    try {
      if (Date.now() > self.expires - EARLY) await renew();
      await audio.current?.play();
    } catch (problem) {
      if (problem.name !== "AbortError" && !audio.current?.error) setError(problem);
    }
  };
  /** A URL that expired while it was used fails like any other: try a new one, but not again and again. */
  const failed = () => {
    if (Date.now() - self.renewed < 5000)
      return setError({ title: "The recording cannot be played", detail: audio.current.error?.message });
    return renew().then(() => self.wanted && play(), setError);
  };
  const seek = (seconds) => {
    self.at = Math.max(0, seconds);
    if (audio.current) audio.current.currentTime = self.at;
    self.moved(self.at);
  };
  useEffect(() => {
    if (!audible) return undefined;
    let frame = 0;
    const step = () => {
      if (audio.current.readyState > 0 && !audio.current.seeking) self.at = audio.current.currentTime;
      self.moved(self.at);
    };
    const run = () => {
      step();
      frame = audio.current && !audio.current.paused ? requestAnimationFrame(run) : 0;
    };
    const state = () => {
      self.wanted = !audio.current.paused;
      setPlaying(self.wanted);
      cancelAnimationFrame(frame);
      run();
    };
    const heard = { play: state, pause: state, seeked: step, timeupdate: step, error: failed };
    const element = audio.current;
    for (const [name, listener] of Object.entries(heard)) element.addEventListener(name, listener);
    renew().catch(setError);
    return () => {
      for (const [name, listener] of Object.entries(heard)) element.removeEventListener(name, listener);
      cancelAnimationFrame(frame);
      element.pause();
      element.removeAttribute("src");
    };
  }, [audible]);
  const toggle = () => (playing ? audio.current.pause() : play());
  return { audio, playing, error, seek, play, toggle, seconds: () => self.at };
}

export function Player({ player, audible, note, turns, total, position, download, copy }) {
  const { audio, playing, error, seek, toggle, play } = player;
  const speed = (event) => {
    audio.current.defaultPlaybackRate = Number(event.target.value);
    audio.current.playbackRate = Number(event.target.value);
    event.target.blur(); // so that keys go to the call again
  };
  const label = playing ? "Pause" : "Play";
  return html`<section class="player" aria-label="Recording">
    ${audible && html`<audio ref=${audio} preload="metadata" />`}
    ${
      audible
        ? html`<button class="play" aria-label=${label} title="Space" onClick=${toggle}>
            <${Icon} name=${playing ? "pause" : "play"} />
          </button>`
        : html`<span class="small muted silent">${note}</span>`
    }
    <span class="clock" hidden=${!audible}>
      <span ref=${position.clock}>0:00</span> <span class="muted">/ ${clock(total)}</span>
    </span>
    ${turns.length > 0 && html`<${Strip} turns=${turns} total=${total} seek=${seek} position=${position} />`}
    <span class="tools">
      ${audible && html`<${Tools} speed=${speed} download=${download} />`}
      ${navigator.clipboard && html`<${CopyLink} copy=${copy} />`}
      <button class="quiet keys" aria-label="Keys" title="Keys (?)" onClick=${showKeys}><${Icon} name="keys" /></button>
    </span>
    ${error && html`<div class="wide"><${Trouble} error=${error} again=${play} /></div>`}
  </section>`;
}

/** Copy the address of the call at this moment. Browsers lend the clipboard only to pages of https and loopback. */
function CopyLink({ copy }) {
  const [copied, setCopied] = useState(false);
  const press = () => copy().then(() => setCopied(true) || setTimeout(() => setCopied(false), 2000), () => {});
  const label = copied ? "Link copied" : "Copy a link to this moment";
  return html`<button class="quiet" aria-label=${label} title=${label} onClick=${press}>
    <${Icon} name=${copied ? "check" : "link"} />
  </button>`;
}

function Tools({ speed, download }) {
  const label = "Download the recording";
  return html`<select aria-label="Speed" onChange=${speed}>
      ${SPEEDS.map((each) => html`<option value=${each} selected=${each === 1}>${each}×</option>`)}
    </select>
    <button class="quiet" aria-label=${label} title=${label} onClick=${download}><${Icon} name="down" /></button>`;
}

/** Two lanes, the agent's above the caller's. A turn lasts until the next one begins; nothing is decoded. */
function Strip({ turns, total, seek, position }) {
  const lanes = useMemo(() => {
    const drawn = (isCaller, top) => lane(turns, total, (role) => isSecond(role) === isCaller, top);
    return html`<path class="agent" d=${drawn(false, 2)} /><path class="user" d=${drawn(true, 11)} />`;
  }, [turns, total]);
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    seek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * total);
  };
  const down = (event) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    at(event);
  };
  return html`<div class="strip" ref=${position.strip} role="slider" tabindex="0" aria-label="Position; who spoke when"
      aria-valuemin="0" aria-valuemax=${Math.ceil(total)} aria-valuenow="0"
      title=${turns.some((turn) => turn.role === "user") ? "Who spoke when: the agent above, the caller below" : "Who spoke when"}
      onPointerDown=${down} onPointerMove=${(event) => event.buttons && at(event)}>
    <svg viewBox=${`0 0 ${total || 1} 20`} preserveAspectRatio="none" aria-hidden="true">${lanes}</svg>
    <span class="head-line" ref=${position.line}></span>
  </div>`;
}

function lane(turns, total, belongs, top) {
  const spoken = turns.filter((turn) => turn.message);
  return spoken
    .map((turn, place) => [turn, (spoken[place + 1]?.at_secs ?? total) - turn.at_secs])
    .filter(([turn, length]) => belongs(turn.role) && length > 0)
    .map(([turn, length]) => `M${turn.at_secs} ${top}h${length}v7h-${length}z`)
    .join("");
}
