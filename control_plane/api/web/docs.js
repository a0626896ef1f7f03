// Shows this server's own OpenAPI document: every route, every schema, and a form to try what only reads.
// Plain modules and the DOM; text is always set as text, so nothing in the document can become markup.

const METHODS = ["get", "put", "patch", "post", "delete"];
const DEPTH_MAX = 6;

const page = document.getElementById("page");
const nav = document.getElementById("routes");
const search = document.getElementById("search");
const token = document.getElementById("token");

/** Make an element: attributes (functions become listeners), then children; strings become text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return made;
}

/** Text in which `code` between backticks is shown as code. */
function prose(text = "") {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

class Api {
  constructor(document_) {
    this.info = document_.info;
    this.tags = document_.tags;
    this.schemas = document_.components.schemas;
    this.routes = Object.entries(document_.paths).flatMap(([path, methods]) =>
      METHODS.filter((method) => methods[method]).map((method) => ({ path, method, ...methods[method] })),
    );
  }

  route(id) {
    return this.routes.find((route) => route.operationId === id);
  }

  /** The schema behind a reference, and its name. */
  resolve(schema) {
    const name = schema?.$ref?.split("/").pop();
    return name ? [this.schemas[name] ?? {}, name] : [schema ?? {}, undefined];
  }
}

// --- words for schemas

function bounds(schema) {
  const told = [];
  if (schema.format) told.push(schema.format);
  if (schema.minimum !== undefined) told.push(`≥ ${schema.minimum}`);
  if (schema.exclusiveMinimum !== undefined) told.push(`> ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined) told.push(`≤ ${schema.maximum}`);
  if (schema.minLength) told.push(`at least ${schema.minLength} characters`);
  if (schema.maxLength) told.push(`at most ${schema.maxLength} characters`);
  if (schema.maxItems) told.push(`at most ${schema.maxItems}`);
  if (schema.pattern) told.push(schema.pattern);
  if (schema.default !== undefined && schema.default !== null && typeof schema.default !== "object")
    told.push(`default ${JSON.stringify(schema.default)}`);
  return told.join(" · ");
}

/** The type in a few nodes; named schemas are links. */
function typeOf(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [el("a", { href: `#schema/${name}` }, name)];
  }
  if (schema.const !== undefined) return [el("code", {}, JSON.stringify(schema.const))];
  if (schema.enum) return schema.enum.flatMap((value, index) => [index ? " | " : "", el("code", {}, String(value))]);
  const options = (schema.anyOf ?? schema.oneOf)?.filter((option) => option.type !== "null");
  if (options) return options.flatMap((option, index) => [index ? " | " : "", ...typeOf(option)]);
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items ?? {})];
  if (schema.type === "object" && typeof schema.additionalProperties === "object")
    return ["mapping of ", ...typeOf(schema.additionalProperties)];
  return [schema.type ?? "any"];
}

/** The reference that a property leads to, through lists, mappings and "or nothing". */
function inner(schema) {
  if (schema.$ref) return schema;
  for (const next of [schema.items, schema.additionalProperties, ...(schema.anyOf ?? [])])
    if (next && typeof next === "object" && next.type !== "null") return inner(next);
  return undefined;
}

function fields(api, schema, depth = 0, seen = []) {
  const [shape, name] = api.resolve(schema);
  if (!shape.properties) return el("p", {}, ...typeOf(shape), " ", el("span", { class: "quiet" }, bounds(shape)));
  const needed = new Set(shape.required ?? []);
  const rows = Object.entries(shape.properties).flatMap(([key, property]) => {
    const below = inner(property);
    const [target, targetName] = below ? api.resolve(below) : [];
    const opens = target?.properties && depth < DEPTH_MAX && !seen.includes(targetName);
    const told = [...prose(property.description), el("div", { class: "quiet" }, bounds(property))];
    const row = el("tr", {}, el("td", {}, el("code", { class: needed.has(key) ? "needed" : "" }, key)), el("td", {}, ...typeOf(property)), el("td", {}, ...told));
    if (!opens) return [row];
    const fold = el("details", { toggle: unfold(api, below, depth + 1, [...seen, name]) }, el("summary", {}, targetName));
    return [row, el("tr", { class: "fold" }, el("td", { colspan: 3 }, fold))];
  });
  const head = el("tr", {}, el("th", {}, "key"), el("th", {}, "type"), el("th", {}, "meaning"));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
}

/** Fill a fold when it is first opened: the whole tree at once would be thousands of rows. */
function unfold(api, schema, depth, seen) {
  return (event) => {
    const fold = event.currentTarget;
    if (fold.open && fold.childElementCount === 1) fold.append(fields(api, schema, depth, seen));
  };
}

// --- pages

function overview(api) {
  const told = api.info.description.split("\n\n").map((part) => el("p", {}, ...prose(part)));
  const rows = api.tags.map((tag) => {
    const first = api.routes.find((route) => route.tags.includes(tag.name));
    const count = api.routes.filter((route) => route.tags.includes(tag.name)).length;
    const link = el("a", { href: `#route/${first.operationId}` }, tag.name);
    return el("tr", {}, el("td", {}, link), el("td", {}, `${count} ${count === 1 ? "route" : "routes"}`), el("td", {}, ...prose(tag.description)));
  });
  return [el("h1", {}, `${api.info.title} ${api.info.version}`), ...told, el("table", {}, el("tbody", {}, ...rows))];
}

function routePage(api, route) {
  const badge = el("span", { class: `method ${route.method}` }, route.method.toUpperCase());
  const roles = (route["x-shoal-roles"] ?? []).map((role) => el("span", { class: "pill" }, role));
  const made = [
    el("h1", {}, ...prose(route.summary)),
    el("div", { class: "route" }, badge, el("span", {}, route.path)),
    el("p", {}, el("span", { class: "quiet" }, roles.length ? "roles " : route.security.length ? "with a join token" : "no token needed"), " ", ...roles),
  ];
  if (route.parameters.length) made.push(el("h2", {}, "Parameters"), parameters(route));
  for (const [type, body] of Object.entries(route.requestBody?.content ?? {}))
    made.push(el("h2", {}, "Body ", el("code", {}, type)), schemaLink(body.schema), fields(api, body.schema));
  made.push(el("h2", {}, "Answers"), answers(api, route));
  if (route.method === "get") made.push(el("h2", {}, "Try it"), tryForm(route));
  return made;
}

function schemaLink(schema) {
  const name = schema.$ref?.split("/").pop();
  return name ? el("p", {}, el("a", { href: `#schema/${name}` }, name)) : undefined;
}

function parameters(route) {
  const rows = route.parameters.map((parameter) =>
    el(
      "tr",
      {},
      el("td", {}, el("code", { class: parameter.required ? "needed" : "" }, parameter.name)),
      el("td", { class: "quiet" }, parameter.in),
      el("td", {}, ...typeOf(parameter.schema)),
      el("td", {}, ...prose(parameter.description), el("div", { class: "quiet" }, bounds(parameter.schema))),
    ),
  );
  const head = ["name", "in", "type", "meaning"].map((title) => el("th", {}, title));
  return el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
}

function answers(api, route) {
  const rows = Object.entries(route.responses).map(([status, answer]) => {
    const kinds = Object.entries(answer.content ?? {}).flatMap(([type, body]) => [el("code", {}, type), " ", ...typeOf(body.schema), " "]);
    const mark = el("span", { class: `status ${status < "400" ? "good" : "bad"}` }, status);
    return el("tr", {}, el("td", {}, mark), el("td", {}, answer.description), el("td", {}, ...kinds));
  });
  return el("table", {}, el("tbody", {}, ...rows));
}

function schemaPage(api, name) {
  const shape = api.schemas[name];
  const uses = api.routes.filter((route) => JSON.stringify([route.requestBody, route.responses]).includes(`/schemas/${name}"`));
  const links = uses.map((route) => el("tr", {}, el("td", {}, method(route)), el("td", {}, el("a", { href: `#route/${route.operationId}` }, route.path))));
  const used = links.length ? [el("h2", {}, "Used by"), el("table", {}, el("tbody", {}, ...links))] : [];
  return [el("h1", {}, name), el("p", {}, ...prose(shape.description)), fields(api, shape, 0, [name]), ...used];
}

function method(route) {
  return el("span", { class: `method ${route.method}` }, route.method.toUpperCase());
}

// --- trying a route that only reads

function tryForm(route) {
  const result = el("div", { "aria-live": "polite" });
  const inputs = route.parameters
    .filter((parameter) => !["watch", "follow"].includes(parameter.name) && parameter.in !== "header")
    .map((parameter) => [parameter, el("input", { name: parameter.name, required: parameter.required, autocomplete: "off" })]);
  const rows = inputs.flatMap(([parameter, input]) => [el("label", {}, el("code", {}, parameter.name)), input]);
  const submit = async (event) => {
    event.preventDefault();
    result.replaceChildren(el("p", { class: "quiet" }, "…"));
    result.replaceChildren(...(await ask(route, inputs)));
  };
  return el("div", {}, el("form", { submit }, ...rows, el("button", {}, "Send GET")), result);
}

async function ask(route, inputs) {
  let path = route.path;
  const query = new URLSearchParams();
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value) query.set(parameter.name, input.value);
  }
  const url = path.slice(1) + (query.size ? `?${query}` : "");
  const headers = token.value ? { Authorization: `Bearer ${token.value}` } : {};
  try {
    const answer = await fetch(url, { headers });
    const text = await answer.text();
    const type = answer.headers.get("Content-Type") ?? "";
    const shown = type.includes("json") ? JSON.stringify(JSON.parse(text), null, 2) : text;
    const status = el("span", { class: `status ${answer.ok ? "good" : "bad"}` }, `${answer.status} ${answer.statusText}`);
    return [el("p", {}, status, " ", el("span", { class: "quiet" }, `${type} · ${text.length} characters`)), el("pre", {}, shown.slice(0, 200000))];
  } catch (error) {
    return [el("p", { class: "bad" }, String(error))];
  }
}

// --- finding the way

function menu(api, wanted) {
  const matches = (text) => text.toLowerCase().includes(wanted);
  const groups = api.tags.flatMap((tag) => {
    const routes = api.routes.filter(
      (route) => route.tags.includes(tag.name) && matches(`${route.method} ${route.path} ${route.summary} ${route.operationId}`),
    );
    const links = routes.map((route) =>
      el("a", { href: `#route/${route.operationId}`, title: route.summary }, method(route), el("span", {}, route.path.replace("/v1", ""))),
    );
    return links.length ? [el("h2", {}, tag.name), ...links] : [];
  });
  const schemas = Object.keys(api.schemas).filter(matches).map((name) => el("a", { href: `#schema/${name}` }, el("span", {}, name)));
  nav.replaceChildren(...groups, ...(schemas.length ? [el("h2", {}, "schemas"), ...schemas] : []));
  mark();
}

function mark() {
  for (const link of nav.querySelectorAll("a"))
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
}

function show(api) {
  const [what, name] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const route = what === "route" ? api.route(name) : undefined;
  const made = route ? routePage(api, route) : what === "schema" && api.schemas[name] ? schemaPage(api, name) : overview(api);
  page.replaceChildren(...made.filter(Boolean));
  document.title = route ? `${route.operationId} · Shoal API` : "Shoal API";
  mark();
  scrollTo(0, 0);
}

async function start() {
  const answer = await fetch("openapi.json");
  const api = new Api(await answer.json());
  addEventListener("hashchange", () => show(api));
  search.addEventListener("input", () => menu(api, search.value.trim().toLowerCase()));
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input")) return;
    event.preventDefault();
    search.focus();
  });
  menu(api, "");
  show(api);
}

start().catch((error) => page.replaceChildren(el("p", { class: "bad" }, `This page could not be built: ${error}`)));
