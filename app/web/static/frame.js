// On a narrow screen the pages stand in one line that is drawn aside: the one that is open is to be seen.

const here = document.querySelector(".top nav [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;
