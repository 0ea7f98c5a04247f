"""MapReduce as in the paper (Dean and Ghemawat, OSDI 2004): the user's own functions as steps of a plan."""
