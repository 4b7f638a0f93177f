"use strict";

const byId = id => document.getElementById(id);

// A new element with text or other elements in it. Nothing is ever read as HTML.
function element(name, of = {}, ...inside) {
  const made = Object.assign(document.createElement(name), of);
  made.append(...inside);
  return made;
}

// A request as a command of a shell. What is no JSON comes out of a file.
function curl(method, path, token, body, type = "application/json") {
  const quoted = text => "'" + text.replaceAll("'", "'\\''") + "'";
  const implied = method == (body ? "POST" : "GET");
  const address = quoted(new URL(path, document.baseURI).href);
  const parts = [`curl ${implied ? "" : `-X ${method} `}${address}`];
  if (token) parts.push('-H "Authorization: Bearer $TOKEN"');
  if (body) parts.push("-H " + quoted("Content-Type: " + type));
  if (body) parts.push(/[/+]json$/.test(type) ? "-d " + quoted(body) : "--data-binary @FILE");
  return parts.join(" \\\n  ");
}
