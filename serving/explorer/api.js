// Calls of the /v1 API. A server that wants a key is asked again with the one that the reader gives.

import { askForKey } from "./key.js";

const KEY = "explorer-key";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
  // The bundle has no such part; other parts of the page go on.
  get absent() {
    return this.code === "not_in_bundle";
  }
}

export async function get(path, params = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of Array.isArray(value) ? value : [value])
      if (each !== undefined && each !== "") query.append(name, each);
  }
  return send(`/v1/${path}${query.size ? `?${query}` : ""}`, { signal });
}

export function post(path, body, signal = undefined) {
  return send(`/v1/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
    signal,
  });
}

export const encode = encodeURIComponent;

async function send(url, options) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    const response = await reach(url, { ...options, headers });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const { code, message } = answer.error ?? { code: "unknown", message: `the server answered ${response.status}` };
    if (response.status !== 401) throw new ApiError(response.status, code, message);
    // Another call may have been given a key while this one was on its way.
    if (sessionStorage.getItem(KEY) === key) sessionStorage.setItem(KEY, await askForKey(key ? message : ""));
  }
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server does not answer. Is it still running?");
  }
}
