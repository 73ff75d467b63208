// The API of `whinchat serve`, by Swagger UI: every address with its fields, and a form to send a request.

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", tryItOutEnabled: true, defaultModelsExpandDepth: 0 });
