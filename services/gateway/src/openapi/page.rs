//! Renders the OpenAPI document as an HTML page without scripts or external resources.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h2{margin-top:2.5rem;border-bottom:1px solid #ddd}h3{font:600 1rem ui-monospace,monospace;margin:2rem 0 .25rem}
h3 b{display:inline-block;min-width:4.5rem;color:#0b5}table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #eee;vertical-align:top}code{font-size:.9em}";

/// Renders the whole page.
pub(super) fn rendered(document: &Value) -> String {
    let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
    let title = text(&document["info"]["title"]);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
    );
    let _ = write!(
        page,
        "<p>{} The same for programs: <a href=\"/openapi.json\">openapi.json</a>.</p>",
        text(&document["info"]["description"])
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let _ = write!(page, "<h2>{}</h2><p>{}</p>", text(&tag["name"]), text(&tag["description"]));
        for (path, method, operation) in
            operations(document).filter(|(.., operation)| operation["tags"][0] == tag["name"])
        {
            let (method, path, summary) =
                (method.to_uppercase(), escaped(path), text(&operation["summary"]));
            let _ = write!(
                page,
                "<h3><b>{method}</b> {path}</h3><p>{summary}</p>{}",
                parameters(operation)
            );
            if let Some(name) =
                schema_name(&operation["requestBody"]["content"]["application/json"]["schema"])
            {
                let _ = write!(page, "<p>Body: <a href=\"#{name}\"><code>{name}</code></a></p>");
            }
            let response = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            if let Some(name) = schema_name(response).or_else(|| schema_name(&response["items"])) {
                let list = if response["type"] == "array" { "a list of " } else { "" };
                let _ = write!(
                    page,
                    "<p>Answer: {list}<a href=\"#{name}\"><code>{name}</code></a></p>"
                );
            }
        }
    }
    page.push_str("<h2>Shapes</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(
            page,
            "<h3 id=\"{name}\">{name}</h3><p>{}</p>{}",
            text(&schema["description"]),
            fields(schema)
        );
    }
    page
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn schema_name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn parameters(operation: &Value) -> String {
    let rows = operation["parameters"].as_array().into_iter().flatten().map(|parameter| {
        let place = parameter["in"].as_str().unwrap_or_default();
        row(
            parameter["name"].as_str().unwrap_or_default(),
            &format!("{place}, {}", kind(&parameter["schema"])),
            &parameter["description"],
        )
    });
    table(rows.collect())
}

fn fields(schema: &Value) -> String {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    table(
        properties
            .iter()
            .map(|(name, field)| row(name, &kind(field), &field["description"]))
            .collect(),
    )
}

fn table(rows: String) -> String {
    if rows.is_empty() { rows } else { format!("<table>{rows}</table>") }
}

fn row(name: &str, kind: &str, text: &Value) -> String {
    let text = escaped(text.as_str().unwrap_or_default());
    format!("<tr><td><code>{}</code><td>{}<td>{text}", escaped(name), escaped(kind))
}

/// A short description of a field's type.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema_name(schema) {
        return name.to_owned();
    }
    if let Some(text) = schema["enum"].as_array() {
        return text
            .iter()
            .map(|word| word.as_str().unwrap_or("null"))
            .collect::<Vec<_>>()
            .join(" | ");
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let base = match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        kind => kind.as_str().unwrap_or("any").to_owned(),
    };
    match schema["format"].as_str() {
        Some(format) => format!("{base} ({format})"),
        None => base,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
