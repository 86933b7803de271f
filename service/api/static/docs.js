// A file of its own, so that the page needs no inline script. validatorUrl: no badge from a foreign host.

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// What a screen reader stumbles over in Swagger UI as it is.
const accessible = {
  wrapComponents: {
    ServersContainer: () => () => null, // a choice without a name, of one server: this one
    DeepLink: (_, { React }) => ({ text }) => React.createElement("span", null, text), // a link within a button
    operations: (Original, { React }) => (properties) => React.createElement("section", null,
      React.createElement("h2", { className: "endpoints" }, "Endpoints"), React.createElement(Original, properties)),
    TextArea: (Original, { React }) => (properties) =>
      React.createElement(Original, { "aria-label": "Body of the request", ...properties }),
    ExamplesSelect: (Original, { React }) => (properties) =>
      React.createElement("label", null, React.createElement(Original, properties)),
  },
};

new MutationObserver(() => {
  const all = (selector) => document.querySelectorAll(selector);
  for (const button of all(".copy-to-clipboard button:not([title])")) button.title = "Copy";
  for (const select of all("tr[data-param-name] select:not([aria-label])")) {
    select.ariaLabel = select.closest("tr").dataset.paramName;
  }
  for (const code of all("pre.microlight:not([tabindex])")) code.tabIndex = 0; // it scrolls
}).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true });

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  syntaxHighlight: { theme: "obsidian" },
  tryItOutEnabled: true, // a request is one click away
  defaultModelsExpandDepth: 0,
  plugins: [accessible],
});
