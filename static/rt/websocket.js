// The WebSocket as a transport: frames that are a poll's answers, heartbeats and their acknowledgement.
// See line.js for the surface; when to reconnect is the client's to know.

import { address } from "./ask.js";
import { Timer } from "./waits.js";

const PATIENCE = 2.5; // heartbeats
const ACKNOWLEDGE_EVERY = 1_000;

export function websocket(world, line) {
  const silence = new Timer(world);
  let socket = null;
  const close = () => {
    silence.clear();
    if (socket) socket.onmessage = socket.onclose = null;
    socket?.close();
  };
  const end = (ending) => {
    close();
    line.ended(ending);
  };
  const watch = () => silence.set(PATIENCE * world.heartbeat, () => end({ status: 0 }));
  try {
    socket = new world.WebSocket(address(world.url, line.since).replace(/^http/, "ws"));
  } catch {
    silence.set(0, () => end({ status: 0 })); // a policy forbids it, or there is none: told like any other failure
    return { close };
  }
  const frame = frames(world, line, socket);
  socket.onmessage = ({ data }) => {
    watch();
    frame(data);
  };
  socket.onclose = ({ code, reason }) => end(ending(code, reason));
  watch();
  return { close };
}

function frames(world, line, socket) {
  let first = true;
  let acknowledged = -Infinity;
  let measured = -Infinity;
  return (data) => {
    const notifications = parse(data);
    if (!Array.isArray(notifications)) return;
    const caughtUp = first;
    first = false;
    line.answer(notifications);
    if (caughtUp || world.now() - acknowledged < ACKNOWLEDGE_EVERY) return;
    if (notifications.length) {
      // So that the server knows how long news takes to get here; once a heartbeat is enough for that.
      if (world.now() - measured < world.heartbeat) return;
      measured = world.now();
    }
    acknowledged = world.now();
    socket.send(String(line.since));
  };
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

/** A close code in the poll's words: 4000 + status; 4503 and 1012 say how many milliseconds to wait. */
function ending(code, reason) {
  if (code === 4503 || code === 1012) return { status: 503, wait: Number(reason) || undefined };
  return { status: code >= 4400 && code < 4600 ? code - 4000 : 0 };
}
