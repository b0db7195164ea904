// Times on pages: zone, region, language, relative and absolute.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LocalTimes } from "../../static/rt/local_time.js";
import { OfflineNotice } from "../../static/rt/offline_notice.js";
import { FakeClock } from "./fake_browser.js";
import { FakeDocument, FakeElement, timeElement } from "./fake_page.js";

process.env.TZ = "America/Bogota"; // UTC-5, without summer time

const NOW = Date.UTC(2026, 10, 28, 23, 0, 0); // 18:00 in Bogota
const SENT = "2026-11-27T22:58:59.123456+00:00"; // 17:58 there, the day before

function page(language, languages, elements, now = NOW) {
  const clock = new FakeClock();
  clock.suspend(now - clock.now());
  const document = new FakeDocument({}, elements);
  return { clock, document, times: new LocalTimes(clock, language, languages, clock.now) };
}

function shown(language, languages, datetime, { format, now } = {}) {
  const element = timeElement(datetime, format);
  const { times, document } = page(language, languages, [element], now);
  times.show(document);
  return plain(element.textContent);
}

/** With ordinary spaces. */
const plain = (text) => text.replace(/[\u00a0\u202f]/g, " ");

for (const [language, languages, expected] of [
  ["en", ["en-US"], "Nov 27, 2026, 5:58 PM"],
  ["en", ["en-GB", "en-US"], "27 Nov 2026, 17:58"],
  ["en", ["de-DE", "en-US"], "27 Nov 2026, 17:58"],
  ["en", ["en"], "Nov 27, 2026, 5:58 PM"],
  ["en", [], "Nov 27, 2026, 5:58 PM"],
  ["en", ["en-US@posix"], "Nov 27, 2026, 5:58 PM"],
  ["es", ["en-GB", "es"], "27 nov 2026, 17:58"],
  ["es", ["es-ES"], "27 nov 2026, 17:58"],
  ["es", ["en-US", "es"], "27 nov 2026, 5:58 p.m."],
  ["zh-Hant", ["zh-TW"], "2026年11月27日 下午5:58"],
  ["zh-Hant", ["zh-HK"], "2026年11月27日 下午5:58"],
  ["zh-Hant", ["en-US"], "2026年11月27日 下午5:58"],
  ["zh-Hant", ["de-DE"], "2026年11月27日 17:58"],
]) {
  test(`page ${language}, browser ${languages}: ${expected}`, () => {
    assert.equal(shown(language, languages, SENT), expected);
  });
}

test("the title has the full date and time", () => {
  const element = timeElement(SENT);
  const { times, document } = page("en", ["en-GB"], [element]);
  times.show(document);
  assert.equal(plain(element.title), "Friday, 27 November 2026 at 17:58:59 GMT-5");
});

test("a date is that of the visitor's zone", () => {
  assert.equal(shown("en", ["en-GB"], "2026-11-01T03:00:00+00:00", { format: "date" }), "31 Oct 2026");
});

for (const [datetime, english, spanish, chinese] of [
  ["2026-11-28T22:59:31+00:00", "now", "ahora", "現在"],
  ["2026-11-28T23:00:50+00:00", "now", "ahora", "現在"],
  ["2026-11-28T22:59:00+00:00", "1 minute ago", "hace 1 minuto", "1 分鐘前"],
  ["2026-11-28T22:00:01+00:00", "59 minutes ago", "hace 59 minutos", "59 分鐘前"],
  ["2026-11-28T22:00:00+00:00", "1 hour ago", "hace 1 hora", "1 小時前"],
  ["2026-11-28T05:00:00+00:00", "18 hours ago", "hace 18 horas", "18 小時前"],
  ["2026-11-28T04:59:59+00:00", "27 Nov 2026, 23:59", "27 nov 2026, 23:59", "2026年11月27日 下午11:59"],
  ["2026-11-28T23:05:00+00:00", "28 Nov 2026, 18:05", "28 nov 2026, 18:05", "2026年11月28日 下午6:05"],
]) {
  test(`at 18:00 a message of ${datetime} is shown as ${english}`, () => {
    assert.equal(shown("en", ["en-GB"], datetime), english);
    assert.equal(shown("es", ["es-ES"], datetime), spanish);
    assert.equal(shown("zh-Hant", ["zh-TW"], datetime), chinese);
  });
}

test("relative times are updated every minute", async () => {
  const element = timeElement("2026-11-28T22:55:00+00:00");
  const { times, document, clock } = page("en", ["en-GB"], [element]);
  times.keepCurrent(document);
  assert.equal(element.textContent, "5 minutes ago");
  await clock.advance(120_000);
  assert.equal(element.textContent, "7 minutes ago");
  await clock.advance(6 * 3_600_000);
  assert.equal(element.textContent, "28 Nov 2026, 17:55");
});

test("invalid times are not changed", () => {
  assert.equal(shown("en", ["en-GB"], "yesterday"), "as rendered");
});

for (const [language, languages, notice, message] of [
  ["en", ["en-US"], "2:05 PM", "Nov 27, 2026, 5:58 PM"],
  ["en", ["en-GB"], "14:05", "27 Nov 2026, 17:58"],
  ["es", ["en-GB"], "14:05", "27 nov 2026, 17:58"],
]) {
  test(`the offline notice and messages have the same hours: page ${language}, browser ${languages}`, () => {
    const connection = new FakeElement({}, { hidden: true, dataset: { text: "{time}" } });
    const { times, clock } = page(language, languages, [], Date.UTC(2026, 10, 28, 19, 5));
    new OfflineNotice(clock, connection, times).offline();
    assert.equal(plain(connection.textContent), notice);
    assert.equal(shown(language, languages, SENT), message);
  });
}
