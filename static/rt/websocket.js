// The WebSocket transport: each frame has the body of a poll's response; heartbeats are acknowledged.
// See also: connection.js for the interface of transports.

import { notificationsUrl } from "./request.js";
import { Timer } from "./timers.js";

const SILENCE = 2.5; // heartbeats
const ACKNOWLEDGE_EVERY = 1_000;

export function websocket(env, connection) {
  const silenceTimer = new Timer(env);
  let socket = null;
  const close = () => {
    silenceTimer.clear();
    if (socket) socket.onmessage = socket.onclose = null;
    socket?.close();
  };
  const end = (reason) => {
    close();
    connection.end(reason);
  };
  const restartSilenceTimer = () => silenceTimer.set(SILENCE * env.heartbeat, () => end({ status: 0 }));
  try {
    socket = new env.WebSocket(notificationsUrl(env.url, connection.since).replace(/^http/, "ws"));
  } catch {
    // The browser has no WebSocket, or a policy forbids it: reported later, like any other failure.
    silenceTimer.set(0, () => end({ status: 0 }));
    return { close };
  }
  const receiveFrame = frameReceiver(env, connection, socket);
  socket.onmessage = ({ data }) => {
    restartSilenceTimer();
    receiveFrame(data);
  };
  socket.onclose = ({ code, reason }) => end(endReason(code, reason));
  restartSilenceTimer();
  return { close };
}

function frameReceiver(env, connection, socket) {
  let first = true;
  let acknowledgedAt = -Infinity;
  let measuredAt = -Infinity;
  return (data) => {
    const notifications = parse(data);
    if (!Array.isArray(notifications)) return;
    const isFirst = first;
    first = false;
    connection.receive(notifications);
    if (isFirst || env.now() - acknowledgedAt < ACKNOWLEDGE_EVERY) return;
    if (notifications.length) {
      // The server measures the delivery time by this acknowledgement; one per heartbeat is enough.
      if (env.now() - measuredAt < env.heartbeat) return;
      measuredAt = env.now();
    }
    acknowledgedAt = env.now();
    socket.send(String(connection.since));
  };
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

/** Maps a close code to an HTTP status: 4000 + status. The reason of 4503 is the time to wait in ms. */
function endReason(code, reason) {
  if (code === 4503) return { status: 503, wait: Number(reason) || undefined };
  if (code === 1012) return { status: 503, restarts: true };
  return { status: code >= 4400 && code < 4600 ? code - 4000 : 0 };
}
