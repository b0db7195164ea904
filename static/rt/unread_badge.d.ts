import type { Token } from "./index.js";

/**
 * `<unread-badge>`: a live number. Attributes: `url`, `token` or `cookies`, `name` (default `unread_message_count`),
 * `label` and `label-one` (sentences with `{n}`). The element sets the attribute `state`.
 */
export class UnreadBadge extends HTMLElement {
  /** The number shown; 0 before the first response and after a refusal. */
  readonly count: number;
  get token(): Token | null;
  set token(token: Token | null);
}

declare global {
  interface HTMLElementTagNameMap {
    "unread-badge": UnreadBadge;
  }
}
