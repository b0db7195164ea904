/** The latest state of one name for one user. A newer one replaces it. */
export interface Notification<Data = unknown> {
  name: string;
  data: Data;
  /** Unix time in seconds; also the cursor. */
  timestamp: number;
}

/**
 * - `connecting`: at the start, and while a lost connection is opened again
 * - `online`: the last response is current
 * - `offline`: the browser says that it has no network
 * - `signed-out`: the token or the session has ended
 * - `forbidden`: the token does not have the scope `notifications:read`
 * - `closed`: after `close()`
 */
export type State = "connecting" | "online" | "offline" | "signed-out" | "forbidden" | "closed";

/** A bearer token, or a function that is called before each request, for tokens that expire. */
export type Token = string | (() => string | Promise<string>);

export interface CommonOptions {
  /** The address of the server, for example `https://chat.example.org`. */
  url: string | URL;
  /** The cursor of an earlier connection with the same `names`; by default the latest notification of each name is sent. */
  since?: number;
  /** Only these names; by default all. */
  names?: readonly string[];
  /** Gets what is new, in the order of its timestamps. */
  apply?: (notifications: Notification[]) => void;
  /** Where the events are dispatched too, for example an element or the document. */
  target?: EventTarget;
  /** The server's `MICROBLOG_HEARTBEAT` in seconds, if it is not 20. */
  heartbeat?: number;
}

/** `cookies` work on pages of the server's own origin, and use the session of the signed-in user. */
export type Options = CommonOptions & ({ token: Token; cookies?: false } | { cookies: true; token?: undefined });

export interface ConnectionEventMap {
  "microblog:notification": CustomEvent<Notification>;
  "microblog:state": CustomEvent<State>;
}

export interface Connection extends EventTarget {
  readonly state: State;
  /** The cursor: everything up to it has been received. */
  readonly since: number;
  close(): void;
  addEventListener<Type extends keyof ConnectionEventMap>(
    type: Type,
    listener: (this: Connection, event: ConnectionEventMap[Type]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Subscribes to a user's notifications. Throws a `TypeError` if an option is invalid. */
export function connect(options: Options): Connection;

declare global {
  interface GlobalEventHandlersEventMap extends ConnectionEventMap {}
}
