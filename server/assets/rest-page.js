// Shows the OpenAPI document of one REST language.
'use strict';

const place = document.getElementById('documentation');
window.SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
