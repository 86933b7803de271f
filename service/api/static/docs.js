// A file of its own, so that the page needs no inline script. validatorUrl: no badge from a foreign host.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
