// Times as the clock on the wall tells them, the same everywhere on the page.

// ms: since 1970. Gives "17:45:00", or "17:45:00.250" with its thousandths.
export function clock(ms, exact = false) {
  const time = new Date(ms);
  const parts = [time.getHours(), time.getMinutes(), time.getSeconds()];
  const text = parts.map((part) => String(part).padStart(2, "0")).join(":");
  return exact ? `${text}.${String(time.getMilliseconds()).padStart(3, "0")}` : text;
}
